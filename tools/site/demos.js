// The host of the demos on pages without a kernel: a stand-in for the kernel's model, which only gives. A demo's script,
// NAME.js, calls bookDemo(NAME, scene); it comes when the reader is near the demo. tools/site/demos.py puts this after
// helpers/demos/widget.js, whose `render` it calls.

window.bookDemo = (name, scene) => {
  const el = document.querySelector(`.demo-host[data-demo="${name}"]`);
  render({ model: { get: () => scene, on() {}, off() {} }, el });
  el.dataset.ready = "";
};

const near = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach(({ target }) => {
  near.unobserve(target);
  const script = document.createElement("script");
  script.src = target.dataset.scene;
  script.onerror = () => (target.querySelector(".demo-says").textContent = "The demo's pictures could not be loaded.");
  document.head.append(script);
}), { rootMargin: "1000px" });

document.querySelectorAll(".demo-host").forEach((el) => near.observe(el));
