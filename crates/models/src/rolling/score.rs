//! What a model said of a row, out of its tensors, and what that was worth once the truth is known.

use predict::observe::{Label, NamedTensor};
use predict::{DataType, Tensor};

/// What a model said of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The probability of the second of two classes, or the value.
    pub value: Option<f64>,
    /// The class, when it says one.
    pub class: Option<Label>,
    /// Whether the value is a probability.
    pub chance: bool,
}

/// Values agree that are as near as this, of each other's size or of one.
const NEAR: f64 = 0.01;
/// The least chance that a logarithm is taken of.
const LEAST: f64 = 1e-15;

fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.datatype() {
        DataType::Fp32 => tensor.values::<f32>().ok()?.iter().map(|x| f64::from(*x)).collect(),
        DataType::Fp64 => tensor.values::<f64>().ok()?.into_owned(),
        DataType::Int64 => tensor.values::<i64>().ok()?.iter().map(|x| *x as f64).collect(),
        DataType::Int32 => tensor.values::<i32>().ok()?.iter().map(|x| f64::from(*x)).collect(),
        _ => return None,
    })
}

fn floats(tensor: &Tensor) -> bool {
    matches!(tensor.datatype(), DataType::Fp32 | DataType::Fp64)
}

/// What a model's outputs say of each row: `probabilities` or `prediction`, or the first floats there are; the class is `label`, else
/// the likelier of two.
pub fn said_of(outputs: &[NamedTensor]) -> Vec<Said> {
    let named = |name: &str| outputs.iter().find(|o| &*o.name == name);
    let table = || outputs.iter().find(|o| floats(&o.tensor) && o.tensor.shape().len() == 2);
    let any = || outputs.iter().find(|o| floats(&o.tensor));
    let answer = named("probabilities").or_else(|| named("prediction")).or_else(table).or_else(any);
    let labels = named("label").map(|o| &o.tensor);
    let rows = answer.map(|a| &a.tensor).or(labels).map_or(0, Tensor::rows);
    let found = answer.and_then(|a| numbers(&a.tensor)).unwrap_or_default();
    let width = found.len().checked_div(rows).unwrap_or(0);
    let classes = labels.map(classes).unwrap_or_default();
    let one = |row: usize| {
        let own = found.get(row * width..(row + 1) * width).unwrap_or_default();
        let (value, chance) = match own {
            [value] => (Some(*value), false),
            [_, second] => (Some(*second), true),
            _ => (None, false),
        };
        let likelier = || match own {
            [first, second] => Some(Label::Number(f64::from(u8::from(second > first)))),
            _ => None,
        };
        Said { value, class: classes.get(row).cloned().or_else(likelier), chance }
    };
    (0..rows).map(one).collect()
}

fn classes(tensor: &Tensor) -> Vec<Label> {
    match tensor.datatype() {
        DataType::Bytes => {
            tensor.strings().map(|text| Label::Text(String::from_utf8_lossy(text).into_owned())).collect()
        }
        _ => numbers(tensor).unwrap_or_default().into_iter().map(Label::Number).collect(),
    }
}

/// Whether two models said the same of a row: the same class, or values that are near.
pub fn agree(a: &Said, b: &Said) -> bool {
    match (&a.class, &b.class) {
        (Some(a), Some(b)) => same(a, b),
        _ => match (a.value, b.value) {
            (Some(a), Some(b)) => (a - b).abs() <= NEAR * a.abs().max(b.abs()).max(1.0),
            _ => false,
        },
    }
}

/// Whether two labels are one: a number may come as its text.
fn same(a: &Label, b: &Label) -> bool {
    match (a, b) {
        (Label::Number(a), Label::Number(b)) => a == b,
        (Label::Text(a), Label::Text(b)) => a == b,
        (Label::Number(n), Label::Text(t)) | (Label::Text(t), Label::Number(n)) => {
            t.parse::<f64>().is_ok_and(|t| t == *n)
        }
    }
}

fn number(label: &Label) -> Option<f64> {
    match label {
        Label::Number(n) => Some(*n),
        Label::Text(t) => t.parse().ok(),
    }
}

/// The value of a metric that a label gives: `correct`, `wrong` (0 or 1), `brier`, `log_loss` (of the chance of the second class),
/// `absolute_error`, `squared_error`. Nothing of another name, or where the row has no such value.
pub(super) fn worth(metric: &str, said: &Said, label: &Label) -> Option<f64> {
    let off = || Some(said.value? - number(label)?);
    let chance = || said.value.filter(|p| said.chance && (0.0..=1.0).contains(p));
    match metric {
        "correct" => said.class.as_ref().map(|class| f64::from(u8::from(same(class, label)))),
        "wrong" => said.class.as_ref().map(|class| f64::from(u8::from(!same(class, label)))),
        "brier" => chance().and_then(|_| off()).map(|x| x * x),
        "log_loss" => {
            let (p, truth) = (chance()?.clamp(LEAST, 1.0 - LEAST), number(label)?);
            Some(-(truth * p.ln() + (1.0 - truth) * (1.0 - p).ln())).filter(|_| truth == 0.0 || truth == 1.0)
        }
        "absolute_error" => off().map(f64::abs),
        "squared_error" => off().map(|x| x * x),
        _ => None,
    }
    .filter(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tensor: Tensor) -> NamedTensor {
        NamedTensor { name: name.into(), tensor }
    }

    #[test]
    fn a_classifier_says_a_chance_and_a_class_and_a_regression_a_value() {
        let chances = Tensor::of(DataType::Fp64, vec![2, 2], vec![0.25, 0.75, 0.6, 0.4]).unwrap();
        let label = Tensor::of(DataType::Int64, vec![2], vec![1_i64, 0]).unwrap();
        let said = said_of(&[named("label", label), named("probabilities", chances.clone())]);
        assert_eq!(said[0], Said { value: Some(0.75), class: Some(Label::Number(1.0)), chance: true });
        assert_eq!(said_of(&[named("p", chances)]), said, "without a label the likelier class");
        let words = Tensor::of_strings(vec![2], ["late", "0"]).unwrap();
        let said = said_of(&[named("label", words)]);
        assert_eq!(said[0].class, Some(Label::Text("late".into())));
        assert_eq!(
            worth("correct", &said[1], &Label::Number(0.0)),
            Some(1.0),
            "a number may come as its text"
        );
        let value = Tensor::of(DataType::Fp32, vec![1, 1], vec![3.0_f32]).unwrap();
        let said = said_of(&[named("prediction", value)]);
        assert_eq!(said, [Said { value: Some(3.0), class: None, chance: false }]);
        assert_eq!(worth("absolute_error", &said[0], &Label::Number(5.0)), Some(2.0));
        assert_eq!(worth("brier", &said[0], &Label::Number(1.0)), None, "it is no chance");
        assert!(said_of(&[]).is_empty());
    }

    #[test]
    fn what_was_said_is_worth_what_the_formulas_say() {
        let said = Said { value: Some(0.8), class: Some(Label::Number(1.0)), chance: true };
        let (yes, no) = (Label::Number(1.0), Label::Number(0.0));
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
        near(worth("brier", &said, &no), 0.64);
        near(worth("log_loss", &said, &yes), -(0.8_f64.ln()));
        near(worth("wrong", &said, &no), 1.0);
        assert_eq!(worth("log_loss", &said, &Label::Number(2.0)), None);
        assert_eq!(worth("thumbs_up", &said, &yes), None, "that is a score, and no label");
    }

    #[test]
    fn models_agree_on_classes_and_on_near_values() {
        let class = |x: f64| Said { value: Some(x), class: Some(Label::Number(x.round())), chance: true };
        let value = |x: f64| Said { value: Some(x), class: None, chance: false };
        assert!(agree(&class(0.9), &class(0.6)) && !agree(&class(0.6), &class(0.4)));
        assert!(agree(&value(100.0), &value(100.9)) && !agree(&value(1.0), &value(1.2)));
    }
}
