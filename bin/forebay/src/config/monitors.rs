//! What no schema can say of the section `monitors`.

use std::collections::BTreeSet;

use models::evaluate::Metric;
use predict::captured::WRITTEN;
use serde_json::Value as Json;

use super::monitor::{MonitorConfig, PerformanceConfig};
use super::pipeline::PipelineConfig;
use super::problem::suggest;
use super::semantics::{Semantics, map, texts};
use super::tree::join;
use crate::watching::performance::{binary, number};
use crate::watching::settings::{Against, against, threshold};

impl Semantics<'_> {
    /// Every monitor. `unsound` are the pointers of problems known already.
    pub(super) fn monitors(&mut self, unsound: &BTreeSet<String>) {
        let json = self.json;
        for (name, monitor) in map(json, "/monitors") {
            let pointer = join("/monitors", name);
            let inside = format!("{pointer}/");
            if unsound.iter().any(|p| *p == pointer || p.starts_with(&inside)) {
                continue;
            }
            match serde_json::from_value::<MonitorConfig>(monitor.clone()) {
                Ok(config) => self.monitor(&pointer, name, &config),
                Err(e) => {
                    let remedy = "compare it with `forebay schema`";
                    self.at_key(&pointer, format!("this cannot be read: {e}"), remedy.into());
                }
            }
        }
        for (name, capture) in map(json, "/capture") {
            self.captured(&join("/capture", name), name, capture);
        }
        let listed = ["webhooks", "slack", "alertmanager"]
            .map(|kind| (kind, json.pointer(&format!("/alerts/{kind}"))));
        for (kind, list) in listed {
            for (at, url) in list.and_then(Json::as_array).into_iter().flatten().enumerate() {
                let text = url.as_str().unwrap_or_default();
                let sound = |u: url::Url| matches!(u.scheme(), "http" | "https") && u.has_host();
                if !text.contains("${") && !url::Url::parse(text).is_ok_and(sound) {
                    let remedy = "write the whole address, such as `https://example.com/alerts`";
                    let own = format!("/alerts/{kind}/{at}");
                    self.at_value(&own, "this is not an http address".into(), remedy.into());
                }
            }
        }
        let signed = json.pointer("/jobs/webhook/secret").is_some();
        if json.pointer("/alerts/webhooks").and_then(Json::as_array).is_some_and(|w| !w.is_empty()) && !signed
        {
            let remedy = "add `jobs: {webhook: {secret: ${NAME}}}`: what the messages are signed with";
            self.at_key("/alerts/webhooks", "these messages cannot be signed".into(), remedy.into());
        }
    }

    /// Something whose answers are kept: it answers, and to requests.
    fn captured(&mut self, pointer: &str, name: &str, capture: &Json) {
        let json = self.json;
        let there = |section: &str| json.pointer(&join(section, name));
        let predicts = |m: &Json| m.get("onnx").is_some() || m.get("registry").is_some();
        if !there("/models").is_some_and(predicts) {
            let known = || WRITTEN.iter().map(|(name, _)| *name).chain(["entity"]);
            for (at, column) in texts(capture, "redact").enumerate() {
                if !known().any(|own| own == column) {
                    let own = format!("{}/{at}", join(pointer, "redact"));
                    let remedy = suggest(column, "the columns that can be left out are", known());
                    self.at_value(&own, format!("no answer has a column `{column}`"), remedy);
                }
            }
        }
        if let Some(model) = there("/models") {
            if predicts(model) && capture.get("texts").is_some() {
                let message = "`texts` are of what writes, and this model predicts";
                self.at_key(&join(pointer, "texts"), message.into(), "remove it".into());
            }
        } else if let Some(pipeline) = there("/pipelines") {
            let spec = serde_json::from_value::<PipelineConfig>(pipeline.clone()).map(|p| p.spec());
            if spec.is_ok_and(|spec| pipeline::is_durable(&spec, self.registry)) {
                let message = format!("the pipeline `{name}` runs durably and answers no request");
                self.at_key(pointer, message, "remove it: `forebay runs show` has what it made".into());
            }
        } else if there("/choices").is_none() {
            let known = ["/models", "/pipelines", "/choices"].into_iter().flat_map(|all| map(json, all));
            let remedy = suggest(name, "those that answer are", known.map(|(name, _)| name.as_str()));
            self.at_key(pointer, format!("there is no model or pipeline `{name}`"), remedy);
        }
    }

    fn monitor(&mut self, pointer: &str, name: &str, config: &MonitorConfig) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let remedy = "take up to 64 letters, digits, `_`, `-` and `.`";
            self.at_key(pointer, format!("`{name}` cannot be the name of a monitor"), remedy.into());
        }
        if config.drift.is_none() && config.freshness.is_none() && config.performance.is_none() {
            let remedy = "add `drift: {window: 7d}`, `freshness: 6h`, or `performance`";
            self.at_key(
                pointer,
                format!("the monitor `{name}` does not say what it looks at"),
                remedy.into(),
            );
        }
        if config.volume.is_some() && config.drift.is_none() {
            let remedy = "add `drift: {window: 1d}`: rows are counted by its windows";
            self.at_key(
                &join(pointer, "volume"),
                "there are no windows to count rows of".into(),
                remedy.into(),
            );
        }
        if let Some(drift) = &config.drift {
            let own = join(pointer, "drift");
            if drift.window.0.as_millis() == 0 {
                let message = "a window without length holds no rows".to_owned();
                self.at_value(&join(&own, "window"), message, "write how long it is, such as `7d`".into());
            }
            if let Against::Wrong(why) = against(drift) {
                let remedy = "write a time such as `28d`, or a version such as `flights@trained`";
                self.at_value(&join(&own, "reference"), why, remedy.into());
            }
        }
        if let Some(performance) = &config.performance {
            self.performance(&join(pointer, "performance"), config, performance);
        }
        let (fire, clear) = threshold(config);
        if clear > fire {
            let message = format!("it would fire from {fire} on, and go on until {clear}");
            let remedy = "write less than `above`, or leave it out: three quarters of `above`";
            self.at_value(&join(&join(pointer, "alert"), "clear"), message, remedy.into());
        }
        self.starts(pointer, config);
        let models = |section: &str| map(self.json, section).any(|(model, _)| *model == config.watch);
        let answers = ["/models", "/choices"].into_iter().any(models);
        if answers && !models("/capture") && !models("/datasets") {
            let message = format!("nothing is kept of what `{}` answers", config.watch);
            let remedy = format!("add `capture: {{{}: {{}}}}`, or name a dataset", config.watch);
            self.at_value(&join(pointer, "watch"), message, remedy);
        }
        if config.freshness.is_some_and(|f| f.0.is_zero()) {
            let remedy = "write how old the newest row may be, such as `6h`";
            self.at_value(&join(pointer, "freshness"), "rows are never that new".into(), remedy.into());
        }
    }

    /// How right a model is.
    fn performance(&mut self, pointer: &str, config: &MonitorConfig, own: &PerformanceConfig) {
        let mut wrong = |field: &str, message: String, remedy: &str| match field {
            "" => self.at_key(pointer, message, remedy.to_owned()),
            field => self.at_value(&join(pointer, field), message, remedy.to_owned()),
        };
        if own.window.0.as_millis() == 0 {
            wrong(
                "window",
                "a window without length holds no rows".into(),
                "write how long it is, such as `7d`",
            );
        }
        if binary(own.metric).is_none() && number(own.metric).is_none() {
            let remedy = "take a figure of two classes such as `auc`, or `mae`, `rmse` or `r2`";
            wrong("metric", format!("`{}` is not measured over time", own.metric), remedy);
        }
        match (own.below, own.above) {
            (None, None) => {
                wrong(
                    "",
                    "nobody says when it is an alert".into(),
                    "add `below: 0.7`, or `above` where less is better",
                );
            }
            (Some(_), Some(_)) => {
                wrong(
                    "above",
                    "it is an alert on one side alone".into(),
                    "leave one of `below` and `above` out",
                );
            }
            (below, above) => {
                let (side, limit) = below.map_or(("above", above), |limit| ("below", Some(limit)));
                let better = own.metric.higher_is_better();
                if better != (side == "below") {
                    let other = if better { "below" } else { "above" };
                    let more = if better { "more" } else { "less" };
                    let message = format!("of `{}` {more} is better", own.metric);
                    wrong(side, message, &format!("write `{other}: …`"));
                }
                let share = binary(own.metric).is_some() && own.metric != Metric::LogLoss;
                if share && !limit.is_some_and(|limit| (0.0..=1.0).contains(&limit)) {
                    wrong(side, format!("`{}` is between 0 and 1", own.metric), "write such a number");
                }
            }
        }
        if !(own.labelled > 0.0 && own.labelled <= 1.0) {
            wrong("labelled", "this is no share".into(), "write more than 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&own.cut) {
            wrong("cut", "this is no probability".into(), "write a number from 0 to 1");
        }
        match &own.labels {
            Some(labels) if labels.dataset.is_some() && labels.on.is_empty() => {
                let message = "nobody says which row a label is of".into();
                wrong("labels", message, "add `on: {COLUMN: COLUMN_OF_THE_ROW}`");
            }
            Some(labels)
                if labels.dataset.is_none() && !(labels.on.is_empty() && labels.known_at.is_none()) =>
            {
                let message = "labels that stand beside their rows are found without that".into();
                wrong("labels", message, "name the `dataset` they are in, or leave `on` and `known_at` out");
            }
            Some(_) => {}
            None if map(self.json, "/capture").any(|(model, _)| *model == config.watch) => {}
            None => {
                let message = format!(
                    "`{}` is no model whose answers are kept, and nobody says where its labels are",
                    config.watch
                );
                let remedy = "add `labels: {column: COLUMN}`, or watch a model of `capture`";
                self.at_key(pointer, message, remedy.into());
            }
        }
    }

    /// The pipeline that it starts.
    fn starts(&mut self, pointer: &str, config: &MonitorConfig) {
        let own = join(pointer, "then");
        let json = self.json;
        if let Some(run) = &config.then.run
            && !map(json, "/pipelines").any(|(pipeline, _)| pipeline == run)
        {
            let names = map(json, "/pipelines").map(|(name, _)| name.as_str());
            let remedy = suggest(run, "the pipelines are", names);
            self.at_value(&own, format!("there is no pipeline `{run}`"), remedy);
        }
        for (field, zero) in [
            ("per_day", config.retrain.per_day.0 == 0),
            ("rejected", config.retrain.rejected.0 == 0),
            ("failed", config.retrain.failed.0 == 0),
        ] {
            if zero {
                let own = join(&join(pointer, "retrain"), field);
                let remedy = "write 1 or more, or take `run` away";
                self.at_value(&own, "nothing would ever be started".into(), remedy.into());
            }
        }
    }
}
