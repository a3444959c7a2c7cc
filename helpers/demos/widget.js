// The front end of widget.py, an anywidget module. Python has computed every frame and written the markup with the
// first one; this shows the frame of the present choice. tools/site/demos.py puts it on pages without a kernel.

let views = 0;

function render({ model, el }) {
  const find = (selector) => el.querySelector(selector);
  const view = ++views;
  let scene, choice; // `choice` holds one number a control
  let addresses = []; // of the pictures

  function open() {
    close();
    scene = model.get("scene");
    addresses = scene.pictures.map(address);
    choice = [...scene.start];
    if (scene.html) { // in a notebook; a page has the markup already
      const form = find("form") ?? own();
      el.innerHTML = scene.html.replace(/picture:(\d+)/g, (_, number) => addresses[number]);
      find(".demo").append(form);
    }
    el.querySelectorAll("[data-control]").forEach((input) => {
      if (input.type === "radio") input.name = `demo-${view}-${input.dataset.control}`;
      input.disabled = false;
      input.addEventListener("input", () => {
        choice[input.dataset.control] = Number(input.value);
        show();
      });
    });
    find("img").onerror = () => (find(".demo-says").textContent = "The picture of this choice could not be shown.");
    const pad = find(".demo-pad");
    if (!pad) return;
    pad.tabIndex = 0;
    tell(pad);
    for (const name of ["pointerdown", "pointermove"]) pad.addEventListener(name, point);
    pad.addEventListener("keydown", step);
  }

  const address = (picture) =>
    typeof picture === "string" ? `data:image/webp;base64,${picture}` : URL.createObjectURL(new Blob([picture], { type: "image/webp" }));

  const close = () => addresses.forEach((url) => URL.revokeObjectURL(url));

  function show() {
    // The last control's choices lie next to each other in the list of frames.
    const frame = scene.frames[scene.controls.reduce((place, names, i) => place * names.length + choice[i], 0)];
    const picture = find("img"), pad = find(".demo-pad");
    if (picture.src !== addresses[frame.picture]) picture.src = addresses[frame.picture];
    picture.alt = frame.alt;
    const under = frame.under === null ? "" : `url("${addresses[frame.under]}")`, style = picture.parentElement.style;
    if (style.backgroundImage !== under) style.backgroundImage = under;
    el.querySelectorAll("tbody tr").forEach((row, i) => {
      const [label, text, bar] = frame.rows[i];
      row.children[0].textContent = label;
      row.children[1].style.cssText = bar;
      row.children[2].textContent = text;
    });
    find(".demo-says").textContent = frame.says;
    el.querySelectorAll("[data-control]").forEach((input) => {
      const control = input.dataset.control, name = scene.controls[control][choice[control]];
      if (input.type === "radio") input.checked = Number(input.value) === choice[control];
      else input.value = choice[control];
      if (input.type !== "range") return;
      input.setAttribute("aria-valuetext", name);
      input.nextElementSibling.textContent = name;
    });
    if (pad) tell(pad);
  }

  // The pad: a spot is [x, y, ...values of its controls]; the first `given` values say when it is there.
  const fits = (values) => values.every((value, i) => choice[scene.pad.controls[i]] === value);
  const here = () => scene.pad.spots.findIndex(([, , ...values]) => fits(values));

  function tell(pad) {
    pad.setAttribute("aria-valuenow", here() + 1);
    pad.setAttribute("aria-valuetext", scene.pad.controls.map((i) => scene.controls[i][choice[i]]).join(", "));
  }

  function go(x, y, allowed = () => true) {
    const distance = ([a, b]) => Math.hypot(a - x, b - y);
    const spots = scene.pad.spots.filter(([a, b, ...values]) => fits(values.slice(0, scene.pad.given)) && allowed(a - x, b - y));
    const [spot] = spots.sort((one, other) => distance(one) - distance(other));
    if (!spot || fits(spot.slice(2))) return;
    scene.pad.controls.forEach((control, i) => (choice[control] = spot[i + 2]));
    show();
  }

  function point(event) {
    if (event.type === "pointermove" && !event.buttons) return;
    const pad = event.currentTarget, box = pad.getBoundingClientRect();
    if (event.type === "pointerdown") pad.setPointerCapture(event.pointerId);
    go((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  function step(event) {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [x, y] = scene.pad.spots[here()];
    go(x, y, (right, down) => right * way[0] + down * way[1] > 0.7 * Math.hypot(right, down));
  }

  // With a kernel: a picture of the reader's own. A file goes as text, which every notebook service lets through.
  function own() {
    const form = document.createElement("form");
    form.className = "demo-own";
    form.innerHTML = `<label>Your own picture <input type="file" accept="image/*"></label>
      <label>or its address <input type="text" inputmode="url" placeholder="https://…"></label>
      <button>Compute</button><p role="status"></p>`;
    const [file, address] = form.querySelectorAll("input"), status = form.querySelector("p");
    model.on("change:status", () => (status.textContent = model.get("status")));
    model.on("change:busy", () => (form.querySelector("button").disabled = model.get("busy")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const [picture] = file.files, typed = address.value.trim();
      if (!picture && !typed) return void (status.textContent = "Choose a file or give an address first.");
      if (picture?.size > 7e6) return void (status.textContent = "The file has more than 7 MB: make it smaller first.");
      status.textContent = "Waiting for the kernel …";
      if (typed) return model.send({ address: typed });
      const reader = new FileReader();
      reader.onload = () => model.send({ name: picture.name, data: reader.result.split(",")[1] ?? "" });
      reader.readAsDataURL(picture);
    });
    file.addEventListener("change", () => (address.value = "")); // the last one counts
    return form;
  }

  el.addEventListener("keydown", (event) => event.stopPropagation()); // notebooks have keys of their own
  open();
  model.on("change:scene", open);
  return () => {
    model.off("change:scene", open);
    close();
  };
}

export default { render };
