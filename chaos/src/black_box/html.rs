//! `report.html`: one file without anything from elsewhere, in the colours that the reader's system prefers.
//!
//! ```text
//! verdict, rules, goals
//! timeline   bands: faults     bars: attempts a second, acknowledged and failed     line: p99
//!            a row a node: not running, running, ready; above it, how many shards it leads
//! faults, figures, witnesses
//! ```
//!
//! All text comes from outside of this file (scenario, logs, file names) and is escaped; there is no script.

use std::fmt::Write as _;

use crate::black_box::check::Status;
use crate::black_box::history::{History, NodeSample};
use crate::black_box::report::{Report, status_text};

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0; --ground: #fff; --panel: #f6f8fa;
  --ok: #2da44e; --bad: #cf222e; --band: #bf870033; --blue: #0969da; --wait: #d4a72c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --ground: #0d1117;
  --panel: #151b23; --ok: #3fb950; --bad: #f85149; --band: #d2992240; --blue: #58a6ff; --wait: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); margin: 2rem auto;
  max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.badge { border-radius: 1rem; padding: .15rem .8rem; color: #fff; font-size: 1rem; margin-left: .5rem; background: var(--bad); }
.badge.passed { background: var(--ok); }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem;
  text-align: left; vertical-align: top; } th { color: var(--soft); font-weight: 500; }
.fail { color: var(--bad); font-weight: 600; } .pass { color: var(--ok); } .soft, p.soft { color: var(--soft); }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { width: 100%; height: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
";

/// Width of the drawing, and what of it is left of the first second.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 64.0;
const BARS: f64 = 160.0;
const TOP: f64 = 34.0;
const ROW: f64 = 26.0;

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The whole page.
pub fn page(report: &Report<'_>, history: &History) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    let verdict = report.judgement.verdict;
    let class = if verdict.exit_code() == 0 { "badge passed" } else { "badge" };
    let name = escape(&report.scenario);
    let _ = write!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}: {}</title>\n<style>{STYLE}</style>\n\
         <h1>{name} <span class=\"{class}\">{}</span></h1>\n",
        verdict.text(),
        verdict.text()
    );
    let _ = writeln!(out, "<p>{}</p>", escape(&report.summary));
    if let Some(reason) = &report.undecided {
        let _ = writeln!(out, "<p class=\"fail\">Not judged: {}</p>", escape(reason));
    }
    let _ = writeln!(
        out,
        "<p class=\"soft\">seed {}, {} nodes, version {}, {}, goals of time × {}</p>",
        report.seed,
        report.nodes,
        escape(&report.version),
        escape(&report.machine),
        report.slack
    );
    out.push_str("<h2>Timeline</h2>\n");
    timeline(&mut out, report, history);
    rules(&mut out, report);
    goals(&mut out, report);
    faults(&mut out, report);
    out.push_str("<h2>Figures</h2>\n<table>\n");
    for (what, figure) in report.table() {
        let _ = writeln!(out, "<tr><td>{}</td><td class=\"num\">{}</td></tr>", escape(what), escape(&figure));
    }
    out.push_str("</table>\n");
    if !report.errors.is_empty() {
        out.push_str("<h2>Errors that nodes logged</h2>\n");
        for (node, errors) in &report.errors {
            let _ = writeln!(out, "<p>Node {}, {} lines:</p><ul>", node + 1, errors.len());
            for error in errors.iter().take(10) {
                let _ = writeln!(out, "<li><code>{}</code></li>", escape(error));
            }
            out.push_str("</ul>\n");
        }
    }
    out.push_str("</html>\n");
    out
}

fn rules(out: &mut String, report: &Report<'_>) {
    out.push_str(
        "<h2>Rules</h2>\n<table>\n<tr><th>rule</th><th></th><th>demands</th><th>evidence</th></tr>\n",
    );
    for check in &report.judgement.checks {
        let class = match check.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::NotApplicable | Status::Undecided => "soft",
        };
        let status = status_text(check.status).trim_matches('*');
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"{class}\">{status}</td><td>{}</td><td>{}",
            check.id,
            escape(check.title),
            escape(&check.evidence)
        );
        for witness in &check.witnesses {
            let _ = write!(out, "<br><code>{}</code>", escape(witness));
        }
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table>\n");
}

fn goals(out: &mut String, report: &Report<'_>) {
    if report.judgement.goals.is_empty() {
        return;
    }
    out.push_str("<h2>Goals</h2>\n<table>\n<tr><th>goal</th><th>wanted</th><th>got</th><th></th></tr>\n");
    for goal in &report.judgement.goals {
        let (class, met) = if goal.is_met { ("pass", "met") } else { ("fail", "missed") };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{met}</td></tr>",
            escape(goal.name),
            escape(&goal.wanted),
            escape(&goal.got)
        );
    }
    out.push_str("</table>\n");
}

fn faults(out: &mut String, report: &Report<'_>) {
    if report.faults.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Faults</h2>\n<table>\n<tr><th>at</th><th>lasted</th><th>gap</th><th></th><th></th></tr>\n",
    );
    for (fault, gap) in report.faults.iter().zip(&report.judgement.figures.gaps) {
        let _ = writeln!(
            out,
            "<tr><td class=\"num\">{:.1} s</td><td class=\"num\">{:.1} s</td><td class=\"num\">{}</td><td>{}</td><td>{}</td></tr>",
            fault.t0 as f64 / 1e6,
            (fault.t1 - fault.t0) as f64 / 1e6,
            gap.ms.map_or_else(|| "until the end".to_owned(), |ms| format!("{ms:.0} ms")),
            escape(&fault.name),
            escape(&fault.detail)
        );
    }
    out.push_str("</table>\n");
}

/// Places on the drawing.
struct Scale {
    seconds: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds.clamp(0.0, self.seconds) / self.seconds) * (WIDTH - LEFT - 10.0)
    }

    fn micros(&self, t: u64) -> f64 {
        self.x(t as f64 / 1e6)
    }
}

fn timeline(out: &mut String, report: &Report<'_>, history: &History) {
    let seconds = &report.judgement.figures.timeline;
    let scale = Scale { seconds: (seconds.len() as f64).max(1.0) };
    let height = TOP + BARS + 30.0 + ROW * report.nodes as f64 + 10.0;
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Attempts to write, second by second\">"
    );
    for fault in &report.faults {
        let (from, to) = (scale.micros(fault.t0), scale.micros(fault.t1));
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"16\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--band)\"><title>{}</title></rect>\
             <text x=\"{from:.1}\" y=\"12\">{}</text>",
            (to - from).max(1.5),
            height - 20.0,
            escape(&fault.detail),
            escape(&fault.name)
        );
    }
    bars(out, report, &scale);
    for second in (0..=seconds.len()).step_by((seconds.len() / 10).max(1)) {
        let x = scale.x(second as f64);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\">{second} s</text>", TOP + BARS + 16.0);
    }
    for node in 0..report.nodes {
        let y = TOP + BARS + 30.0 + ROW * node as f64;
        let _ = writeln!(out, "<text x=\"4\" y=\"{:.1}\">node {}</text>", y + 14.0, node + 1);
        states(out, history, node, y, &scale);
        led(out, report, node, y, &scale);
    }
    out.push_str("</svg>\n<p class=\"soft\">Bars: attempts to write that ended in the second, acknowledged (green) or not \
                  (red; what a dead node refuses is among these). Line: 99th percentile of the acknowledged ones, logarithmic from 1 ms to 10 s. Rows: a node is ready \
                  (green), runs (yellow), or does not (red); the number says how many shards it leads.</p>\n");
}

fn bars(out: &mut String, report: &Report<'_>, scale: &Scale) {
    let seconds = &report.judgement.figures.timeline;
    let most = seconds.iter().map(|second| second.ok + second.failed).max().unwrap_or_default().max(1) as f64;
    let _ = writeln!(out, "<text x=\"4\" y=\"{:.1}\">{most:.0}/s</text>", TOP + 8.0);
    let mut line = String::new();
    for (at, second) in seconds.iter().enumerate() {
        let (from, to) = (scale.x(at as f64), scale.x(at as f64 + 1.0));
        let (ok, failed) = (second.ok as f64 / most * BARS, second.failed as f64 / most * BARS);
        let width = (to - from - 1.0).max(0.5);
        let bottom = TOP + BARS;
        let title =
            format!("{at} s: {} ok, {} failed, p99 {:.0} ms", second.ok, second.failed, second.p99_ms);
        let _ = writeln!(
            out,
            "<g><title>{title}</title><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{ok:.1}\" fill=\"var(--ok)\" \
             opacity=\".75\"/><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{failed:.1}\" fill=\"var(--bad)\"/></g>",
            bottom - ok,
            bottom - ok - failed
        );
        if second.p99_ms > 0.0 {
            let part = (second.p99_ms.clamp(1.0, 10_000.0).log10() / 4.0) * BARS;
            let _ = write!(line, "{:.1},{:.1} ", (from + to) / 2.0, bottom - part);
        }
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{line}\" fill=\"none\" stroke=\"var(--blue)\" stroke-width=\"1.5\"/>"
    );
}

fn states(out: &mut String, history: &History, node: usize, y: f64, scale: &Scale) {
    let samples: Vec<&NodeSample> = history.nodes().filter(|sample| sample.node == node).collect();
    for (at, sample) in samples.iter().enumerate() {
        let until = samples.get(at + 1).map_or(sample.t, |next| next.t);
        let colour = match (sample.is_running, sample.is_ready) {
            (_, true) => "var(--ok)",
            (true, false) => "var(--wait)",
            (false, false) => "var(--bad)",
        };
        let (from, to) = (scale.micros(sample.t), scale.micros(until));
        if to > from {
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"5\" fill=\"{colour}\"/>",
                to - from
            );
        }
    }
}

fn led(out: &mut String, report: &Report<'_>, node: usize, y: f64, scale: &Scale) {
    let mut last = None;
    for (t, of) in &report.leaders {
        let count = of.iter().filter(|leader| **leader == Some(node)).count();
        if last != Some(count) {
            last = Some(count);
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{count}</text>", scale.micros(*t), y + 17.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::black_box::check::judge;
    use crate::black_box::history::{FaultOp, Line, SCHEMA};

    #[test]
    fn text_from_outside_stays_text() {
        let bad = "<script>alert(1)</script>";
        let scenario = format!("name = \"{bad}\"\nsummary = \"{bad} & 'x'\"\nduration = \"5s\"\n");
        let lines = vec![
            Line::Run {
                schema: SCHEMA,
                scenario,
                seed: 1,
                slack: 1.0,
                nodes: 3,
                version: bad.to_owned(),
                started_ms: 0,
                machine: bad.to_owned(),
            },
            Line::Fault(FaultOp {
                name: bad.to_owned(),
                detail: bad.to_owned(),
                nodes: vec![0],
                t0: 1,
                t1: 2_000_000,
            }),
            Line::Printed { node: 0, panics: vec![bad.to_owned()], errors: vec![bad.to_owned()] },
            Line::Undecided { reason: bad.to_owned() },
            Line::LoadEnd { t: 3_000_000 },
        ];
        let history = History { lines };
        let judgement = judge(&history).expect("a judgement");
        let page = page(&Report::of(&history, &judgement).expect("a report"), &history);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.matches("&lt;script&gt;").count() >= 8, "{page}");
        // Nothing is loaded from anywhere.
        for word in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
