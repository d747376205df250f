// A film plays and stops when it is pressed, so that the player's bar does not cover pictures this flat.
for (const film of document.querySelectorAll(".screen video")) {
  const button = document.createElement("button");
  const show = () => {
    button.dataset.state = film.paused ? "paused" : "playing";
    button.setAttribute("aria-label", (film.paused ? "Play: " : "Pause: ") + film.getAttribute("aria-label"));
  };
  button.type = "button";
  button.onclick = () => (film.paused ? film.play() : film.pause());
  film.onplay = film.onpause = show;
  film.controls = false;
  film.after(button);
  show();
}
