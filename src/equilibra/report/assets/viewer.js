(function () {
  "use strict";

  function hasWebGL() {
    try {
      var canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch (error) {
      return false;
    }
  }

  function elementColours(carbon) {
    var map = Object.assign({}, window.$3Dmol.elementColors.defaultColors);
    map.C = parseInt(carbon.slice(1), 16);
    map.H = 0xdfe3e8;
    return { prop: "elem", map: map };
  }

  // The conformations of a movie as PDB texts: the template's lines with other coordinates, 16 bits each.
  function conformations(movie) {
    var bytes = Uint8Array.from(atob(movie.frames), function (sign) { return sign.charCodeAt(0); });
    var view = new DataView(bytes.buffer);
    var lines = movie.template.split("\n");
    var place = 0;
    return movie.labels.map(function () {
      return lines.map(function (line) {
        if (!/^(ATOM {2}|HETATM)/.test(line)) { return line; }
        var text = "";
        for (var axis = 0; axis < 3; axis += 1) {
          text += (view.getInt16(place, true) * movie.unit).toFixed(3).padStart(8);
          place += 2;
        }
        return line.slice(0, 30) + text + line.slice(54);
      }).join("\n");
    });
  }

  // Shows one figure's structures; the message for browsers without WebGL stays where they cannot be drawn.
  function start(figure) {
    var stage = figure.querySelector(".stage");
    var toolbar = figure.querySelector(".toolbar");
    var fallback = figure.querySelector(".fallback");
    var data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    var choices = Array.from(toolbar.querySelectorAll("[data-show]"));
    var hydrogens = toolbar.querySelector("[data-toggle='hydrogens']");
    var spin = toolbar.querySelector("[data-toggle='spin']");
    if (!hasWebGL() || !window.$3Dmol) {
      fallback.querySelector("span").textContent = data.without_webgl;
      stage.removeAttribute("tabindex");
      return;
    }
    fallback.remove();
    toolbar.hidden = false;
    var viewer = window.$3Dmol.createViewer(stage, { backgroundAlpha: 0, antialias: true, disableFog: true });
    var cartoon = data.drawing === "cartoon";
    var crystal = data.drawing === "crystal";
    function add(text) {
      return viewer.addModel(text, "pdb", { keepH: true, noComputeSecondaryStructure: !cartoon });
    }
    var texts = data.movie ? conformations(data.movie) : data.models;
    var models = texts.map(add);
    var shown = choices.length > 1 && !crystal ? "all" : "0";
    var wanted = null; // hydrogens as the reader chose; until then they show for one structure, not for many

    function pressed(button) {
      return button.getAttribute("aria-pressed") === "true";
    }

    function style(model, colour, crowd) {
      if (cartoon) {
        model.setStyle({}, { cartoon: { color: colour, thickness: crowd ? 0.3 : 0.4, arrows: true } });
        return;
      }
      var colours = elementColours(colour);
      model.setStyle({}, {
        stick: { radius: crowd ? 0.1 : 0.13, colorscheme: colours },
        sphere: { scale: crowd ? 0.17 : 0.23, colorscheme: colours },
      });
    }

    function draw() {
      var crowd = shown === "all";
      var withHydrogens = wanted === null ? !crowd : wanted;
      if (hydrogens) { hydrogens.setAttribute("aria-pressed", String(withHydrogens)); }
      models.forEach(function (model, i) {
        var visible = crowd || Number(shown) === i;
        model.setStyle({}, {});
        if (crystal) { viewer.removeUnitCell(model); }
        if (!visible) { return; }
        style(model, data.colours[i], crowd);
        if (crystal) { viewer.addUnitCell(model, { box: { color: "#848d97" }, alabel: "", blabel: "", clabel: "" }); }
        if (hydrogens && !withHydrogens) {
          model.setStyle({ elem: "H" }, {});
        }
      });
      choices.forEach(function (button) {
        button.setAttribute("aria-pressed", String(button.dataset.show === shown));
      });
      viewer.render();
    }

    // Plays the conformations forth and back; each is drawn once, and then only shown or hidden.
    function movie() {
      var slider = toolbar.querySelector("input");
      var play = toolbar.querySelector("[data-action='play']");
      var ends = toolbar.querySelector("[data-toggle='ends']");
      var ghosts = [texts[0], texts[texts.length - 1]].map(add);
      var drawn = {};
      var step = 1;
      var timer = null;
      // thin, not translucent: on a stage without ground of its own what is translucent is not seen
      ghosts.forEach(function (model, i) {
        var colour = data.colours[i + 1];
        model.setStyle({}, cartoon ? { cartoon: { style: "trace", color: colour, thickness: 0.15 } } : { line: { color: colour } });
      });

      function show(index) {
        models.forEach(function (model, i) { if (i !== index) { model.hide(); } });
        if (!drawn[index]) { style(models[index], data.colours[0], false); }
        drawn[index] = true;
        models[index].show();
        slider.value = String(index);
        toolbar.querySelector("output").textContent = data.movie.labels[index];
        viewer.render();
      }

      function stop() {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
        play.setAttribute("aria-pressed", "false");
      }

      slider.addEventListener("input", function () { stop(); show(Number(slider.value)); });
      play.addEventListener("click", function () {
        if (timer !== null) { stop(); return; }
        play.textContent = "Pause";
        play.setAttribute("aria-pressed", "true");
        timer = setInterval(function () {
          var now = Number(slider.value);
          if (now + step < 0 || now + step >= models.length) { step = -step; }
          if (models.length > 1) { show(now + step); }
        }, 120);
      });
      ends.addEventListener("click", function () {
        ends.setAttribute("aria-pressed", String(!pressed(ends)));
        ghosts.forEach(function (model) { if (pressed(ends)) { model.show(); } else { model.hide(); } });
        viewer.render();
      });
      models.forEach(function (model) { model.setStyle({}, {}); });
      show(0);
    }

    function home() {
      viewer.setView(initial);
      viewer.render();
    }

    choices.forEach(function (button) {
      button.addEventListener("click", function () {
        shown = button.dataset.show;
        draw();
      });
    });
    if (hydrogens) {
      hydrogens.addEventListener("click", function () {
        wanted = !pressed(hydrogens);
        draw();
      });
    }
    spin.addEventListener("click", function () {
      spin.setAttribute("aria-pressed", String(!pressed(spin)));
      viewer.spin(pressed(spin) ? "y" : false, 0.6);
    });
    toolbar.querySelector("[data-action='reset']").addEventListener("click", home);

    // The wheel scrolls the page until the reader has chosen the view by a click or the keyboard.
    stage.addEventListener("pointerdown", function () { stage.focus({ preventScroll: true }); }, true);
    stage.addEventListener("wheel", function (event) {
      if (!stage.contains(document.activeElement)) { event.stopPropagation(); }
    }, { capture: true });
    stage.addEventListener("keydown", function (event) {
      var turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] };
      if (event.key in turns) {
        viewer.rotate(turns[event.key][0], turns[event.key][1]);
      } else if (event.key === "+" || event.key === "-") {
        viewer.zoom(event.key === "+" ? 1.1 : 1 / 1.1);
      } else {
        return;
      }
      event.preventDefault();
      viewer.render();
    });

    if (data.movie) { movie(); } else { draw(); }
    viewer.zoomTo();
    viewer.zoom(1.2);
    var initial = viewer.getView();
    viewer.render();
    window.addEventListener("resize", function () { viewer.resize(); });
  }

  document.querySelectorAll(".molecules").forEach(function (figure) {
    try {
      start(figure);
    } catch (error) {
      var stage = figure.querySelector(".stage");
      figure.querySelector(".toolbar").hidden = true;
      stage.textContent = "";
      var message = document.createElement("p");
      message.className = "fallback";
      var text = document.createElement("span");
      text.textContent = "The 3-D view could not be drawn: " + error;
      message.appendChild(text);
      stage.appendChild(message);
    }
  });
})();
