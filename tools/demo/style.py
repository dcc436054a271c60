"""The report's look: one palette for light and dark, shared by the page and the picture."""

from __future__ import annotations

from typing import Final

FONT: Final = (
    'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", '
    "Arial, sans-serif"
)

PALETTE: Final = """
:root{--page:#f6f5f1;--card:#fffefb;--ink:#1c2128;--mute:#6b7079;--rule:#e4e2da;--grid:#ebe9e2;
--c0:#38318f;--c1:#12908e;--c2:#e59a2f;--c3:#b8456b;--cd:#b9b7b0;--mask:#8d919a;--good:#1d7a50;
--chip:#fffefb}
@media (prefers-color-scheme:dark){
:root{--page:#14171b;--card:#1b1f25;--ink:#e9e8e3;--mute:#979da7;--rule:#2c323a;--grid:#272c34;
--c0:#8f8af0;--c1:#3cbdb4;--c2:#f0b35a;--c3:#e5799b;--cd:#545b66;--mask:#727984;--good:#5cc496;
--chip:#14171b}}
"""

CHART: Final = f"""
.chart{{display:block;width:100%;height:auto;font:12px {FONT};font-variant-numeric:tabular-nums}}
.chart text{{fill:var(--ink)}} .chart .mute{{fill:var(--mute)}}
.chart .strong{{font-size:15px;font-weight:650}} .chart .ink{{font-size:12.5px}}
.chart .big{{font-size:21px;font-weight:650;fill:var(--mute)}}
.grid{{stroke:var(--grid)}} .axis{{stroke:var(--mute);stroke-opacity:.55}}
.dense{{stroke:var(--mute);stroke-width:1.5;stroke-dasharray:5 4}}
.line{{fill:none;stroke-width:2.4;stroke-linejoin:round;stroke-linecap:round}}
.lead{{fill:none;stroke-width:1;stroke-opacity:.5}} .halo{{fill:var(--card)}}
.c0{{fill:var(--c0)}} .c1{{fill:var(--c1)}} .c2{{fill:var(--c2)}} .c3{{fill:var(--c3)}}
.cd{{fill:var(--cd)}} .cm{{fill:var(--mask)}}
.s0{{stroke:var(--c0)}} .s1{{stroke:var(--c1)}} .s2{{stroke:var(--c2)}} .s3{{stroke:var(--c3)}}
"""

PAGE: Final = f"""
*{{box-sizing:border-box}}
body{{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 {FONT}}}
main{{max-width:1120px;margin:0 auto;padding:48px 28px 56px}}
.eyebrow{{margin:0;color:var(--mute);font-size:13px}}
h1{{margin:6px 0 10px;font-size:34px;line-height:1.15;letter-spacing:-.02em;font-weight:680}}
.lede{{margin:0 0 30px;max-width:66ch;font-size:17px;color:var(--mute)}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(155px,1fr));gap:1px;
background:var(--rule);border:1px solid var(--rule);border-radius:12px;overflow:hidden;margin:0}}
.tile{{background:var(--card);padding:17px 18px 15px}} .tile dt{{font-size:13px;color:var(--mute)}}
.tile dd{{margin:3px 0 0;font-size:27px;font-weight:650;letter-spacing:-.02em;
font-variant-numeric:tabular-nums;white-space:nowrap}}
.tile p{{margin:2px 0 0;font-size:12.5px;line-height:1.4;color:var(--mute)}}
.cards{{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));
gap:18px;margin:18px 0}}
.card{{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:20px 22px 16px;min-width:0}}
.wide{{grid-column:1/-1}}
h2{{margin:0;font-size:17px;letter-spacing:-.01em}}
.sub{{margin:2px 0 14px;color:var(--mute);font-size:13.5px}}
.legend{{margin:10px 0 0;font-size:13px;color:var(--mute)}}
.key{{display:inline-block;margin-right:18px}}
.key i{{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px}}
.bc0{{background:var(--c0)}} .bc1{{background:var(--c1)}} .bc2{{background:var(--c2)}}
.bc3{{background:var(--c3)}} .bcm{{background:var(--mask)}} .bcd{{background:var(--cd)}}
.scroll{{overflow-x:auto;margin:0 -22px;padding:0 22px}}
table{{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}}
th{{text-align:left;font-weight:500;color:var(--mute);font-size:12.5px;padding:6px 14px 8px 0;
border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:bottom}}
td{{padding:11px 14px 11px 0;border-bottom:1px solid var(--rule);vertical-align:top}}
tr:last-child td{{border-bottom:0}} th:last-child,td:last-child{{padding-right:0}}
td:first-child{{min-width:150px}}
.num{{text-align:right;white-space:nowrap}} td b{{font-weight:620}}
.board,.small{{display:block;color:var(--mute);font-size:12.5px}}
.why{{min-width:230px;max-width:360px;color:var(--mute);font-size:12.5px;line-height:1.45}}
.chip{{display:inline-block;min-width:44px;text-align:center;padding:1px 9px;border-radius:99px;
color:var(--chip);font-weight:620}} .chip.bc2{{color:#2b1e07}}
details{{margin-top:22px;color:var(--mute);font-size:13.5px}} summary{{cursor:pointer}}
details dt{{font-weight:600;color:var(--ink);margin-top:8px}} details dd{{margin:0}}
code{{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}}
footer{{margin-top:26px;color:var(--mute);font-size:12.5px}}
@media (max-width:640px){{main{{padding:28px 16px}} h1{{font-size:27px}}
.cards{{grid-template-columns:1fr}}}}
@media print{{body{{background:#fff}} .card,.tile{{break-inside:avoid}}}}
"""
