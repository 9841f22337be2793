//! The figures that can be asked for, by the names people write.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::rows::Truth;

/// A figure of a model on some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// `auc`: area under the ROC curve.
    Auc,
    /// `average_precision`: the area under the precision-recall curve, not interpolated.
    AveragePrecision,
    /// `accuracy`: the share that is right.
    Accuracy,
    /// `precision` at the threshold.
    Precision,
    /// `recall` at the threshold.
    Recall,
    /// `f1` at the threshold.
    F1,
    /// `fpr`: the share of negatives called positive, at the threshold.
    Fpr,
    /// `fnr`: the share of positives called negative, at the threshold.
    Fnr,
    /// `log_loss` of probabilities.
    LogLoss,
    /// `brier`: the mean squared error of probabilities.
    Brier,
    /// `ece`: expected calibration error over bins of equal width.
    Ece,
    /// `ece_mass`: expected calibration error over bins of equal mass.
    EceMass,
    /// `recall@precision=0.9`: the highest recall of thresholds whose precision is at least that.
    RecallAtPrecision(f64),
    /// `cost`: what mistakes cost a row, at the threshold.
    Cost,
    /// `macro_f1`: F1 of each class, averaged over classes.
    MacroF1,
    /// `micro_f1`: F1 over all decisions.
    MicroF1,
    /// `mae`: mean absolute error.
    Mae,
    /// `rmse`: root mean squared error.
    Rmse,
    /// `r2`: the share of variance explained.
    R2,
    /// `mape`: mean absolute percentage error, as a share.
    Mape,
}

const NAMES: &[(&str, Metric)] = &[
    ("auc", Metric::Auc),
    ("average_precision", Metric::AveragePrecision),
    ("accuracy", Metric::Accuracy),
    ("precision", Metric::Precision),
    ("recall", Metric::Recall),
    ("f1", Metric::F1),
    ("fpr", Metric::Fpr),
    ("fnr", Metric::Fnr),
    ("log_loss", Metric::LogLoss),
    ("brier", Metric::Brier),
    ("ece", Metric::Ece),
    ("ece_mass", Metric::EceMass),
    ("cost", Metric::Cost),
    ("macro_f1", Metric::MacroF1),
    ("micro_f1", Metric::MicroF1),
    ("mae", Metric::Mae),
    ("rmse", Metric::Rmse),
    ("r2", Metric::R2),
    ("mape", Metric::Mape),
];
const AT_PRECISION: &str = "recall@precision=";

impl Metric {
    /// Those that have a name without a number, in the order of documentation.
    pub fn all() -> impl Iterator<Item = Metric> {
        NAMES.iter().map(|(_, metric)| *metric)
    }

    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        use Metric::*;
        match self {
            Auc | AveragePrecision | Accuracy | Precision | Recall | F1 | RecallAtPrecision(_) | MacroF1
            | MicroF1 | R2 => true,
            Fpr | Fnr | LogLoss | Brier | Ece | EceMass | Cost | Mae | Rmse | Mape => false,
        }
    }

    /// By how much `a` is better than `b`: negative when it is worse.
    pub fn gain(self, a: f64, b: f64) -> f64 {
        if self.higher_is_better() { a - b } else { b - a }
    }

    /// Whether predictions of this kind have it.
    pub fn fits(self, truth: &Truth) -> bool {
        use Metric::*;
        match truth {
            Truth::Binary { .. } => !matches!(self, MacroF1 | MicroF1 | Mae | Rmse | R2 | Mape),
            Truth::Multiclass { .. } => matches!(self, Accuracy | MacroF1 | MicroF1 | LogLoss),
            Truth::Regression { .. } => matches!(self, Mae | Rmse | R2 | Mape),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMES.iter().find(|(_, metric)| metric == self)) {
            (Metric::RecallAtPrecision(p), _) => write!(f, "{AT_PRECISION}{p}"),
            (_, Some((name, _))) => f.pad(name),
            (_, None) => f.write_str("?"),
        }
    }
}

impl FromStr for Metric {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(p) = text.strip_prefix(AT_PRECISION) {
            let p = p.parse::<f64>().ok().filter(|p| *p > 0.0 && *p <= 1.0);
            return p
                .map(Metric::RecallAtPrecision)
                .ok_or_else(|| format!("`{text}` needs a precision above 0 and up to 1"));
        }
        if let Some((_, metric)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*metric);
        }
        let names = NAMES.iter().map(|(name, _)| *name).chain(["recall@precision=0.9"]);
        let near = yaml::problem::suggest(text, "there are", names);
        Err(format!("there is no metric `{text}`; {near}"))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Metric {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Metric".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "auc, average_precision, accuracy, precision, recall, f1, fpr, fnr, \
            log_loss, brier, ece, ece_mass, cost, recall@precision=0.9; macro_f1, micro_f1; mae, rmse, r2, mape"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_read_back_by_its_name() {
        for metric in Metric::all().chain([Metric::RecallAtPrecision(0.5)]) {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        assert_eq!("recall@precision=0.5".parse(), Ok(Metric::RecallAtPrecision(0.5)));
        assert!("recall@precision=2".parse::<Metric>().is_err());
        assert!("aux".parse::<Metric>().unwrap_err().contains("did you mean `auc`"));
    }
}
