// The decks (slides.py): which lecture, light or dark, and what must be settled between reveal.js and the demos.
// Addresses: ?minutes=20 the short lecture, ?theme=dark or light, ?print-pdf to print, with &notes their notes, too.

const asked = new URLSearchParams(location.search);
const root = document.documentElement;

const dark = matchMedia("(prefers-color-scheme: dark)");
const printing = asked.has("print-pdf") || asked.get("view") === "print";
const setTheme = (name) => (root.dataset.theme = name);
setTheme(asked.get("theme") ?? (printing || !dark.matches ? "light" : "dark"));

const short = asked.get("minutes") === "20";
document.querySelectorAll(".slides > section").forEach((slide) => {
  const minutes = Number(short ? slide.dataset.short : slide.dataset.minutes);
  if (minutes) slide.dataset.timing = 60 * minutes; // the speaker's view counts against it
  else slide.remove();
});

// A demo has its own keys; on a slide they must not turn the page.
document.querySelectorAll(".live").forEach((demo) => demo.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" && event.key !== "Tab") event.stopPropagation();
}));

window.MathJax = {
  options: { enableMenu: false, ignoreHtmlClass: "mathjax_ignore", processHtmlClass: "math" },
  startup: { pageReady: () => MathJax.startup.defaultPageReady().then(() => (root.dataset.math = "ready")) },
};

const deck = new Reveal({
  width: 1280,
  height: 720,
  margin: 0,
  minScale: 0.1,
  maxScale: 4,
  center: false,
  display: "flex",
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  viewDistance: 2,
  scrollActivationWidth: 0, // on a phone, too, it is slides
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: 1,
  showNotes: printing && asked.has("notes") ? "separate-page" : false,
  plugins: [RevealNotes],
});
deck.addKeyBinding({ keyCode: 68, key: "D", description: "Light or dark" }, () =>
  setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
deck.initialize().then(() => (root.dataset.deck = "ready"));
