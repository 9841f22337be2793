//! What no schema can say of the section `features`.

use std::collections::{BTreeMap, BTreeSet};

use data::features::{FeatureView, datasets_of};
use serde_json::Value as Json;

use super::feature::FeatureViewConfig;
use super::problem::suggest;
use super::semantics::{Semantics, map};
use super::tree::join;

impl Semantics<'_> {
    /// Every view and every service. `unsound` are the pointers of problems known already.
    pub(super) fn features(&mut self, unsound: &BTreeSet<String>) {
        let json = self.json;
        let mut views: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, view) in map(json, "/features/views") {
            let pointer = join("/features/views", name);
            let list = |field: &str| view.get(field).and_then(Json::as_array).into_iter().flatten();
            let features = list("features").filter_map(Json::as_str).map(str::to_owned).collect();
            views.insert(name, features);
            let inside = format!("{pointer}/");
            if !unsound.iter().any(|p| *p == pointer || p.starts_with(&inside)) {
                self.view(&pointer, name, view);
            }
            for known in [Some(name.as_str()), view.get("push_source").and_then(Json::as_str)] {
                let Some(known) = known else { continue };
                if let Some(other) = names.insert(known, name)
                    && other != name
                {
                    let message = format!(
                        "rows that are pushed to `{known}` would be those of `{other}` and of `{name}`"
                    );
                    self.at_key(
                        &pointer,
                        message,
                        "give each view a name and a push source of its own".into(),
                    );
                }
            }
        }
        if let Some(refresh) = json.pointer("/features/refresh")
            && refresh
                .as_str()
                .and_then(|t| t.parse::<super::units::Time>().ok())
                .is_some_and(|t| t.0.is_zero())
        {
            let remedy = "write how often, such as `1m`";
            self.at_value(
                "/features/refresh",
                "features cannot be taken over all the time".into(),
                remedy.into(),
            );
        }
        for (name, features) in map(json, "/features/services") {
            let pointer = join("/features/services", name);
            for (at, feature) in features.as_array().into_iter().flatten().enumerate() {
                let Some(text) = feature.as_str() else { continue };
                let place = format!("{pointer}/{at}");
                let (view, feature) = text.split_once(':').map_or((text, None), |(v, f)| (v, Some(f)));
                match (views.get(view), feature) {
                    (None, _) => {
                        let remedy = suggest(view, "the views are", views.keys().copied());
                        self.at_value(&place, format!("there is no feature view `{view}`"), remedy);
                    }
                    (Some(features), Some(feature)) if !features.iter().any(|f| f == feature) => {
                        let remedy = suggest(feature, "it has", features.iter().map(String::as_str));
                        let message = format!("the feature view `{view}` has no feature `{feature}`");
                        self.at_value(&place, message, remedy);
                    }
                    _ => {}
                }
            }
        }
    }

    fn view(&mut self, pointer: &str, name: &str, json: &Json) {
        if let Some(sql) = json.get("sql").and_then(Json::as_str)
            && let Err(why) = datasets_of(sql)
        {
            let remedy = "write one SELECT over datasets";
            self.at_value(
                &join(pointer, "sql"),
                format!("this query is none of a feature view: {why}"),
                remedy.into(),
            );
        }
        let Ok(config) = serde_json::from_value::<FeatureViewConfig>(json.clone()) else { return };
        if config.ttl.is_some_and(|ttl| ttl.0.subsec_nanos() > 0) {
            let remedy = "write `1s` or more, without fractions";
            self.at_value(&join(pointer, "ttl"), "a TTL is in whole seconds".into(), remedy.into());
        }
        if let Err(error) = FeatureView::new(name, config.view()) {
            let text = error.to_string();
            let why = text.split_once(": ").map_or(text.as_str(), |(_, why)| why);
            let message = format!("`{name}` cannot be a feature view: {why}");
            self.at_key(pointer, message, "see `features.views` in `forebay schema`".into());
        }
    }
}
