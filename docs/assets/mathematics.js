// Renders the formulas that the page generator left as \( ... \) and \[ ... \], after every page load.
function renderMathematics() {
  document.querySelectorAll(".arithmatex").forEach((element) =>
    renderMathInElement(element, {
      delimiters: [
        { left: "\\(", right: "\\)", display: false },
        { left: "\\[", right: "\\]", display: true },
      ],
      throwOnError: false,
    }),
  );
}

if (typeof document$ !== "undefined") {
  document$.subscribe(renderMathematics);
} else {
  document.addEventListener("DOMContentLoaded", renderMathematics);
}
