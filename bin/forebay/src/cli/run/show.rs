//! A run on the terminal: the draft, progress per stage and the sum on standard error, the answer on standard output.
//!
//! On a terminal every running stage has a moving line; elsewhere each change is a line of its own. When the answer
//! goes to the same terminal, what happens while it streams is told behind it. What a model says cannot steer the
//! terminal: control characters are left out there.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::Duration;

use contract::{Event, Money, StageName, StageRecord, StageState, Usage};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::super::storage::clean;

/// The display.
pub(super) struct Show {
    /// Moving lines, on a terminal.
    bars: Option<MultiProgress>,
    stages: BTreeMap<StageName, ProgressBar>,
    /// The answer goes to the same terminal as the progress.
    shared: bool,
    /// Standard output is a terminal.
    screen: bool,
    /// Lines that wait for the answer's end.
    later: Vec<String>,
    text: Text,
    draft: Option<String>,
    id: Option<String>,
    error: Option<String>,
    done: Option<Sum>,
    /// What commands on the same place need.
    place: String,
}

/// How much of the answer was printed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text {
    begun: bool,
    open_line: bool,
}

struct Sum {
    usage: Usage,
    cost: Money,
    stages: Vec<StageRecord>,
    /// The whole event, for findings and an output that is no text.
    json: Value,
}

impl Show {
    /// A display for the terminal there is.
    pub(super) fn new(place: String) -> Self {
        let bars = stderr().is_terminal();
        Show {
            bars: bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            stages: BTreeMap::new(),
            shared: bars && stdout().is_terminal(),
            screen: stdout().is_terminal(),
            later: Vec::new(),
            text: Text::default(),
            draft: None,
            id: None,
            error: None,
            done: None,
            place,
        }
    }

    /// Takes the next event; `json` is its bytes.
    pub(super) fn event(&mut self, event: &Event, json: &[u8]) {
        match event {
            Event::Accepted { id, queue_position, expected_wait_ms } => {
                self.id = Some(id.to_string());
                if *queue_position > 0 {
                    self.say(format!("queued at {queue_position}, about {expected_wait_ms} ms"));
                }
            }
            Event::Stage { name, state, elapsed_ms, budget_ms } => {
                self.stage(name, *state, *elapsed_ms, *budget_ms);
            }
            Event::Part { stage, index, of, error, .. } => {
                self.part(stage, index + 1, *of, error.as_deref());
            }
            Event::Draft { text } => {
                let lines: Vec<String> = text.lines().map(|l| format!("  {}", clean(l))).collect();
                self.say(format!("draft:\n{}", lines.join("\n")));
                self.draft = Some(text.clone());
            }
            Event::Delta { text } => self.write(text),
            Event::Reset {} => self.say("the answer broke off and begins anew:".to_owned()),
            Event::Usage { .. } => {}
            Event::Error { code, message, .. } => self.error = Some(format!("{code}: {}", clean(message))),
            Event::Done { usage, cost_nanousd, stages, .. } => {
                let json = serde_json::from_slice(json).unwrap_or_default();
                let (usage, cost, stages) = (*usage, *cost_nanousd, stages.clone());
                self.done = Some(Sum { usage, cost, stages, json });
            }
        }
    }

    /// A line about the run.
    fn say(&mut self, line: String) {
        match &self.bars {
            _ if self.shared && self.text.begun => self.later.push(line),
            Some(bars) => {
                let _ = bars.println(line);
            }
            None => {
                let _ = writeln!(stderr(), "{line}");
            }
        }
    }

    fn stage(&mut self, name: &StageName, state: StageState, elapsed_ms: u64, budget_ms: Option<u64>) {
        if state == StageState::Started {
            match &self.bars {
                Some(bars) if !(self.shared && self.text.begun) => {
                    let bar = bars.add(ProgressBar::new_spinner());
                    bar.set_style(style("{spinner} {prefix}  {elapsed}"));
                    bar.set_prefix(name.to_string());
                    bar.enable_steady_tick(Duration::from_millis(120));
                    self.stages.insert(name.clone(), bar);
                }
                Some(_) => {}
                None => self.say(format!("{name}: started")),
            }
            return;
        }
        if let Some(bar) = self.stages.remove(name) {
            bar.finish_and_clear();
        }
        let (mark, word) = match state {
            StageState::Done => ("✓", "done"),
            StageState::Partial => ("~", "partial"),
            StageState::Skipped => ("-", "skipped"),
            StageState::Failed | StageState::Started => ("✗", "failed"),
        };
        let budget = budget_ms.map_or(String::new(), |b| {
            let over = if elapsed_ms > b { ", over it" } else { "" };
            format!(" (budget {}{over})", seconds(b))
        });
        let took = seconds(elapsed_ms);
        self.say(if self.bars.is_some() {
            let word = if state == StageState::Done { String::new() } else { format!(" {word}") };
            format!("{mark} {name}{word}  {took}{budget}")
        } else {
            format!("{name}: {word} in {took}{budget}")
        });
    }

    fn part(&mut self, stage: &StageName, number: u64, of: u64, error: Option<&str>) {
        if let Some(bar) = self.stages.get(stage) {
            if bar.length().is_none() {
                bar.set_length(of);
                bar.set_style(style("{spinner} {prefix}  {bar:20} {pos}/{len}  {elapsed}"));
            }
            bar.inc(1);
        }
        match error {
            Some(why) => self.say(format!("{stage}: part {number} of {of} failed: {}", clean(why))),
            None if self.bars.is_none() => self.say(format!("{stage}: part {number} of {of}")),
            None => {}
        }
    }

    /// The next piece of the answer.
    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.text.begun {
            self.text.begun = true;
            if self.shared {
                for (_, bar) in std::mem::take(&mut self.stages) {
                    bar.finish_and_clear();
                }
                let _ = writeln!(stderr());
            }
        }
        self.text.open_line = !text.ends_with('\n');
        let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        let text = if self.screen { text.chars().filter(kept).collect() } else { text.to_owned() };
        let print = || {
            let mut out = stdout().lock();
            // A reader that left is no failure.
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        };
        match &self.bars {
            Some(bars) if self.screen && !self.shared => bars.suspend(print),
            _ => print(),
        }
    }

    /// The run ended: what is left of the answer, and what it took.
    pub(super) fn end(mut self) {
        for (_, bar) in std::mem::take(&mut self.stages) {
            bar.finish_and_clear();
        }
        let sum = self.done.take();
        if !self.text.begun {
            let output = sum.as_ref().and_then(|s| s.json.get("output")).map(|o| match o {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            // Nothing was streamed: the draft stands for the answer.
            if let Some(text) = output.or_else(|| self.draft.take()) {
                self.write(&text);
            }
        }
        if self.text.open_line {
            let _ = writeln!(stdout());
        }
        let mut lines = std::mem::take(&mut self.later);
        if self.shared {
            lines.insert(0, String::new());
        }
        lines.extend(self.error.take().map(|e| format!("not complete: {e}")));
        if let Some(sum) = &sum {
            lines.extend(sum.stages.iter().filter_map(parts));
            lines.push(total(sum));
        }
        if let Some(id) = &self.id {
            lines.push(format!("request {id}"));
            lines.push(format!("explain it by: forebay explain {id}{}", self.place));
        }
        let _ = writeln!(stderr(), "{}", lines.join("\n"));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What a fan-out did.
fn parts(stage: &StageRecord) -> Option<String> {
    let [all, failed, cached] = stage.parts?;
    Some(format!("{}: {all} parts, {failed} failed, {cached} from the cache", stage.name))
}

/// Cost, tokens and findings on one line.
fn total(sum: &Sum) -> String {
    let about = if sum.usage.estimated { " (estimated)" } else { "" };
    let cached = match sum.usage.cached_input_tokens {
        0 => String::new(),
        n => format!(" ({n} cached)"),
    };
    let (input, output) = (sum.usage.input_tokens, sum.usage.output_tokens);
    let mut parts =
        vec![format!("cost {}", sum.cost), format!("tokens {input} in{cached}, {output} out{about}")];
    if let Some(coverage) = sum.json.get("coverage").and_then(Value::as_f64) {
        parts.push(format!("coverage {:.1} %", coverage * 100.0));
    }
    if let Some(Value::Object(grounding)) = sum.json.get("grounding") {
        let each: Vec<String> =
            grounding.iter().filter(|(_, v)| v.is_number()).map(|(k, v)| format!("{k} {v}")).collect();
        parts.push(format!("grounding: {}", clean(&each.join(", "))));
    }
    if let Some(Value::String(version)) = sum.json.get("model_version") {
        parts.push(format!("model {}", clean(version)));
    }
    parts.join(" · ")
}

/// Milliseconds as people read them.
fn seconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sum_names_cost_tokens_coverage_and_what_was_checked() {
        let sum = Sum {
            usage: Usage {
                input_tokens: 1_200,
                output_tokens: 80,
                cached_input_tokens: 200,
                reasoning_tokens: 0,
                estimated: true,
            },
            cost: Money::from_nanos(20_000_000),
            stages: Vec::new(),
            json: json!({"coverage": 0.831, "grounding": {"sentences": 4, "dropped": 1, "list": []}}),
        };
        assert_eq!(
            total(&sum),
            "cost $0.02 · tokens 1200 in (200 cached), 80 out (estimated) · coverage 83.1 % · grounding: sentences 4, dropped 1"
        );
        assert_eq!((seconds(999), seconds(12_345)), ("999 ms".into(), "12.3 s".into()));
    }
}
