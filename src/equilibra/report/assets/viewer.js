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
    var models = data.models.map(function (text) {
      return viewer.addModel(text, "pdb", { keepH: true, noComputeSecondaryStructure: true });
    });
    var shown = choices.length > 1 ? "all" : "0";
    var wanted = null; // hydrogens as the reader chose; until then they show for one structure, not for many

    function pressed(button) {
      return button.getAttribute("aria-pressed") === "true";
    }

    function draw() {
      var crowd = shown === "all";
      var withHydrogens = wanted === null ? !crowd : wanted;
      hydrogens.setAttribute("aria-pressed", String(withHydrogens));
      models.forEach(function (model, i) {
        var visible = crowd || Number(shown) === i;
        model.setStyle({}, {});
        if (!visible) { return; }
        var colours = elementColours(data.colours[i]);
        model.setStyle({}, {
          stick: { radius: crowd ? 0.1 : 0.13, colorscheme: colours },
          sphere: { scale: crowd ? 0.17 : 0.23, colorscheme: colours },
        });
        if (!withHydrogens) {
          model.setStyle({ elem: "H" }, {});
        }
      });
      choices.forEach(function (button) {
        button.setAttribute("aria-pressed", String(button.dataset.show === shown));
      });
      viewer.render();
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
    hydrogens.addEventListener("click", function () {
      wanted = !pressed(hydrogens);
      draw();
    });
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

    draw();
    viewer.zoomTo();
    viewer.zoom(1.2);
    var initial = viewer.getView();
    draw();
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
