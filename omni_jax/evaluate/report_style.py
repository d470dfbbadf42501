"""The look of the report: one style sheet and a few lines of script, both inside the page."""

STYLE = """
:root { --ink: #1d2433; --soft: #5b6476; --line: #e3e7ee; --pale: #f6f8fb; --accent: #2f6fde; --good: #1c8a55;
  --bad: #c2452d; --warm: #e39a2d; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 54px 0 6px; padding-top: 18px; border-top: 1px solid var(--line); }
h3 { font-size: 15.5px; margin: 26px 0 8px; }
p { margin: 6px 0 12px; max-width: 96ch; }
.soft, .note { color: var(--soft); }
.note { font-size: 12.5px; line-height: 1.45; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px; margin: 22px 0 8px; }
.tile { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; background: var(--pale); }
.tile b { display: block; font-size: 24px; font-weight: 650; letter-spacing: -.01em; }
.tile span { color: var(--soft); font-size: 12.5px; display: block; line-height: 1.4; }
.tile span.goal { margin-top: 4px; font-weight: 600; } .tile span.good { color: var(--good); }
.tile span.bad { color: var(--bad); }
.tile.reached { border-left: 4px solid var(--good); } .tile.missed { border-left: 4px solid var(--bad); }
table { border-collapse: collapse; width: 100%; margin: 8px 0 14px; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; border-bottom: 1px solid var(--line);
  padding: 6px 10px 6px 0; }
td { border-bottom: 1px solid var(--line); padding: 7px 10px 7px 0; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.value { font-weight: 650; }
.scroll { overflow-x: auto; }
td.name { min-width: 250px; } td.beside { min-width: 220px; }
.chip { display: inline-block; background: var(--pale); border: 1px solid var(--line); border-radius: 20px;
  padding: 0 8px; margin: 0 4px 3px 0; font-size: 12px; white-space: nowrap; font-variant-numeric: tabular-nums; }
.verdict { font-size: 12.5px; min-width: 96px; } .good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px; margin: 12px 0; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 14px; display: flex; gap: 14px; }
.card img { width: 104px; height: 104px; object-fit: contain; border-radius: 6px; border: 1px solid var(--line);
  image-rendering: auto; background: var(--pale); flex: none; }
.card div.words { min-width: 0; flex: 1; }
.who { color: var(--soft); font-size: 12px; margin-top: 4px; }
.sound { display: inline-flex; align-items: center; gap: 6px; vertical-align: middle; }
.sound button { width: 26px; height: 26px; border-radius: 50%; border: 1px solid var(--accent); color: var(--accent);
  background: #fff; cursor: pointer; font-size: 10px; line-height: 1; padding: 0 0 0 2px; flex: none; }
.sound button:hover, .sound.on button { background: var(--accent); color: #fff; }
.sound svg { fill: #9db8ec; } .sound.on svg { fill: var(--accent); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 16px; margin: 12px 0; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 10px; padding: 12px 12px 6px; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 4px; }
figcaption span { color: var(--soft); font-weight: 400; }
svg text { font-family: inherit; font-size: 11px; fill: var(--soft); }
.matrices { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start; }
.matrix { width: auto; } .matrix td, .matrix th { padding: 5px 9px; border: 1px solid #fff; text-align: center; }
.matrix th.row { text-align: right; }
details { margin: 6px 0; } summary { cursor: pointer; font-weight: 600; font-size: 13.5px; }
pre { background: var(--pale); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; font-size: 12px;
  overflow: auto; max-height: 420px; }
nav { margin: 16px 0 26px; font-size: 13.5px; }
nav a { color: var(--accent); text-decoration: none; margin-right: 16px; }
"""

SCRIPT = """
document.addEventListener("click", event => {
  const button = event.target.closest(".sound button");
  if (!button) return;
  const sound = button.parentElement, audio = sound.querySelector("audio");
  document.querySelectorAll("audio").forEach(other => { if (other !== audio) other.pause(); });
  if (audio.paused) { audio.currentTime = 0; audio.play(); } else audio.pause();
  audio.onplay = () => { sound.classList.add("on"); button.textContent = "\\u25a0"; };
  audio.onpause = audio.onended = () => { sound.classList.remove("on"); button.textContent = "\\u25b6"; };
});
"""
