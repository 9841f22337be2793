//! Tokens to clauses.

use super::lex::{Sort, Token, tokens};
use super::list::list;
use super::{Clause, Entity, Op, Value, Vocabulary, shown};
use crate::tracking::Refused;

/// The clauses of a filter; none of an empty one.
///
/// # Errors
/// What is wrong with it, as MLflow says it.
pub fn parse(filter: &str, vocabulary: Vocabulary) -> Result<Vec<Clause>, Refused> {
    let all = tokens(filter);
    let mut rest = all.as_slice();
    let (mut clauses, mut strange) = (Vec::new(), Vec::new());
    while let Some((first, behind)) = rest.split_first() {
        match comparison(rest) {
            Some((found, taken)) => {
                clauses.push(found);
                rest = rest.get(taken..).unwrap_or_default();
            }
            None => {
                if !first.is("AND") {
                    strange.push(first.text);
                }
                rest = behind;
            }
        }
    }
    if !strange.is_empty() {
        return Err(invalid_clauses(filter, vocabulary, &strange));
    }
    clauses.into_iter().map(|c| c.read(vocabulary)).collect()
}

fn invalid_clauses(filter: &str, vocabulary: Vocabulary, strange: &[&str]) -> Refused {
    let message = match vocabulary {
        Vocabulary::LoggedModels => format!(
            "Invalid filter string: '{filter}'. Expected a list of comparisons separated by 'AND' \
             (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."
        ),
        Vocabulary::Runs => format!("Invalid clause(s) in filter string: {}", shown(strange, "", "")),
        _ => format!("Invalid clause(s) in filter string: {}", strange.join(", ")),
    };
    Refused::invalid(message)
}

/// A comparison as it was written.
#[derive(Debug)]
struct Written<'a> {
    left: Token<'a>,
    op: String,
    right: Option<Token<'a>>,
}

/// The comparison that the tokens begin with, and how many of them it is.
fn comparison<'a>(rest: &[Token<'a>]) -> Option<(Written<'a>, usize)> {
    let is = |at: usize, word: &str| rest.get(at).is_some_and(|t: &Token<'_>| t.is(word));
    let left = *rest.first()?;
    let value = |at: usize| {
        rest.get(at)
            .copied()
            .filter(|t| matches!(t.sort, Sort::Name | Sort::Text | Sort::Int | Sort::Float | Sort::List))
    };
    let bare = matches!(left.sort, Sort::Name);
    if bare && is(1, "IS") && is(2, "NULL") {
        return Some((Written { left, op: "IS NULL".to_owned(), right: None }, 3));
    }
    if bare && is(1, "IS") && is(2, "NOT") && is(3, "NULL") {
        return Some((Written { left, op: "IS NOT NULL".to_owned(), right: None }, 4));
    }
    if bare && is(1, "NOT") && is(2, "IN") {
        let right = value(3).filter(|t| t.sort == Sort::List)?;
        return Some((Written { left, op: "NOT IN".to_owned(), right: Some(right) }, 4));
    }
    if bare && is(1, "IN") {
        let right = value(2).filter(|t| t.sort == Sort::List)?;
        return Some((Written { left, op: "IN".to_owned(), right: Some(right) }, 3));
    }
    let operator = rest.get(1).filter(|t| t.sort == Sort::Operator || t.is("LIKE") || t.is("ILIKE"))?;
    if !matches!(left.sort, Sort::Name | Sort::Text | Sort::Int | Sort::Float) {
        return None;
    }
    let op = operator.text.to_owned();
    Some((Written { left, op, right: Some(value(2)?) }, 3))
}

impl Written<'_> {
    fn read(self, vocabulary: Vocabulary) -> Result<Clause, Refused> {
        if self.left.sort != Sort::Name {
            let m = format!("Invalid comparison clause. Expected 'Identifier' found '{}'", self.left.text);
            return Err(Refused::invalid(m));
        }
        let (entity, key) = identifier(self.left.text, vocabulary, vocabulary.attributes())?;
        let op = Op::of(&self.op);
        let Some(right) = self.right else { return null(vocabulary, entity, key, op) };
        let number =
            entity == Entity::Attribute && vocabulary == Vocabulary::ModelVersions && key == "version_number";
        if vocabulary == Vocabulary::LoggedModels || number {
            // It looks at the operator first.
            let op = vocabulary.allows(entity, &key, op, &self.op)?;
            let value = value(vocabulary, entity, &key, right)?;
            return Ok(Clause { entity, key, op, value });
        }
        let value = value(vocabulary, entity, &key, right)?;
        let op = vocabulary.allows(entity, &key, op, &self.op)?;
        match (&value, op) {
            (Value::List(_), Op::In | Op::NotIn) => {}
            (Value::List(_), _) | (_, Op::In | Op::NotIn) => {
                let m = format!("Invalid comparison clause. '{}' takes another sort of value", op.as_str());
                return Err(Refused::invalid(m));
            }
            _ => {}
        }
        Ok(Clause { entity, key, op, value })
    }
}

fn null(vocabulary: Vocabulary, entity: Entity, key: String, op: Option<Op>) -> Result<Clause, Refused> {
    let message = match (vocabulary, entity) {
        (Vocabulary::Runs, Entity::Tag | Entity::Param) | (Vocabulary::Experiments, Entity::Tag) => {
            return Ok(Clause { entity, key, op: op.unwrap_or(Op::IsNull), value: Value::None });
        }
        (Vocabulary::Runs, _) => format!(
            "IS NULL / IS NOT NULL is only supported for tags and params, not for '{}' '{key}'",
            entity.name()
        ),
        (Vocabulary::Experiments, _) => {
            format!("IS NULL / IS NOT NULL is only supported for tags, not for attribute '{key}'")
        }
        _ => "Invalid comparison clause. Expected 3 tokens found 2".to_owned(),
    };
    Err(Refused::invalid(message))
}

/// What a name names: an entity and a key.
pub(super) fn identifier(
    text: &str,
    vocabulary: Vocabulary,
    attributes: &[&str],
) -> Result<(Entity, String), Refused> {
    let (entity, key) = match text.split_once('.') {
        None => (Entity::Attribute, text),
        Some((word, key)) => (vocabulary.entity(word)?, key),
    };
    let mut key = unquoted(key).to_owned();
    if entity == Entity::Attribute && vocabulary == Vocabulary::LoggedModels {
        key = match key.as_str() {
            "creation_time" | "creation_timestamp" => "creation_timestamp_ms".to_owned(),
            "last_updated_timestamp" => "last_updated_timestamp_ms".to_owned(),
            _ => key,
        };
    }
    let wrong = |what: &str, valid: &[&str], set: (&str, &str)| {
        let valid = shown(valid, set.0, set.1);
        Refused::invalid(format!("Invalid {what} key '{key}' specified. Valid keys are '{valid}'"))
    };
    if entity == Entity::Attribute && !attributes.contains(&key.as_str()) {
        return Err(wrong("attribute", attributes, ("{", "}")));
    }
    const DATASET: [&str; 3] = ["name", "digest", "context"];
    if entity == Entity::Dataset && !DATASET.contains(&key.as_str()) {
        return Err(wrong("dataset", &DATASET, ("{", "}")));
    }
    Ok((entity, key))
}

/// Without one pair of quotes of any sort.
pub(super) fn unquoted(text: &str) -> &str {
    ['\'', '"', '`']
        .into_iter()
        .find_map(|q| text.strip_prefix(q).and_then(|t| t.strip_suffix(q)))
        .unwrap_or(text)
}

/// A value that has to be a text: in quotes.
fn text(token: Token<'_>) -> Result<Value, Refused> {
    let bare =
        ['\'', '"'].into_iter().find_map(|q| token.text.strip_prefix(q).and_then(|t| t.strip_suffix(q)));
    bare.map(|t| Value::Text(t.to_owned())).ok_or_else(|| {
        Refused::invalid(format!(
            "Parameter value is either not quoted or unidentified quote types used for string value {}. \
             Use either single or double quotes.",
            token.text
        ))
    })
}

fn value(vocabulary: Vocabulary, entity: Entity, key: &str, token: Token<'_>) -> Result<Value, Refused> {
    let wrong = |m: String| Err(Refused::invalid(m));
    let is_text = matches!(token.sort, Sort::Text | Sort::Name);
    let number =
        matches!(token.sort, Sort::Int | Sort::Float).then(|| token.text.parse::<f64>().ok()).flatten();
    match entity {
        Entity::Metric => match number {
            Some(n) => Ok(Value::Number(n)),
            None => wrong(format!("Expected numeric value type for metric. Found {}", token.text)),
        },
        Entity::Param | Entity::Tag if is_text => text(token),
        Entity::Param | Entity::Tag if vocabulary == Vocabulary::LoggedModels && token.sort == Sort::List => {
            list(token.text).map(Value::List)
        }
        Entity::Param | Entity::Tag => wrong(format!(
            "Expected a quoted string value for {} (e.g. 'my-value'). Got value {}",
            entity.name(),
            token.text
        )),
        Entity::Attribute if vocabulary.is_numeric(key) => match (token.sort, number) {
            (Sort::Int, Some(n)) => match token.text.parse::<i64>() {
                Ok(n) => Ok(Value::Int(n)),
                Err(_) => Ok(Value::Number(n)),
            },
            (_, Some(_)) if matches!(vocabulary, Vocabulary::Experiments | Vocabulary::ModelVersions) => {
                wrong(format!("Invalid value for numeric attribute '{key}': '{}'", token.text))
            }
            (_, Some(n)) => Ok(Value::Number(n)),
            _ if vocabulary == Vocabulary::ModelVersions => match unquoted(token.text).trim().parse() {
                Ok(n) => Ok(Value::Int(n)),
                Err(_) => wrong(format!("Invalid value for numeric attribute '{key}': {}", token.text)),
            },
            _ => wrong(format!(
                "Expected numeric value type for numeric attribute: {key}. Found {}",
                token.text
            )),
        },
        Entity::Attribute if is_text => text(token),
        Entity::Attribute if token.sort == Sort::List => {
            let listed = vocabulary.listed();
            if vocabulary != Vocabulary::LoggedModels && !listed.contains(&key) {
                return wrong(format!(
                    "Only {} attributes support comparison with a list of quoted string values.",
                    shown(listed, "[", "]")
                ));
            }
            list(token.text).map(Value::List)
        }
        Entity::Attribute
            if matches!(vocabulary, Vocabulary::RegisteredModels | Vocabulary::ModelVersions) =>
        {
            wrong(format!(
                "Expected a quoted string value or a list of quoted string values for attributes. Got value {}",
                token.text
            ))
        }
        Entity::Attribute => {
            wrong(format!("Expected a quoted string value for attributes. Got value {}", token.text))
        }
        Entity::Dataset if is_text => text(token),
        Entity::Dataset if token.sort == Sort::List => list(token.text).map(Value::List),
        Entity::Dataset => {
            wrong(format!("Expected a quoted string value for dataset attributes. Got value {}", token.text))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracking::filter::order;

    const ALL: [Vocabulary; 5] = [
        Vocabulary::Runs,
        Vocabulary::Experiments,
        Vocabulary::LoggedModels,
        Vocabulary::RegisteredModels,
        Vocabulary::ModelVersions,
    ];

    fn runs(filter: &str) -> Result<Vec<(Entity, String, &'static str, Value)>, String> {
        let parsed = parse(filter, Vocabulary::Runs).map_err(|e| e.message)?;
        Ok(parsed.into_iter().map(|c| (c.entity, c.key, c.op.as_str(), c.value)).collect())
    }

    #[test]
    fn every_form_of_a_comparison_is_read() {
        let text = |t: &str| Value::Text(t.to_owned());
        let all = runs(
            "metrics.`a b` >= -0.5 and params.\"x\" = 'y' AND tags.mlflow.source ILIKE \"%z\" AND \
             attributes.status != 'FAILED' AND run_id IN ('a', \"b\") AND tag.k IS NOT NULL AND start_time > 5 \
             AND dataset.name LIKE 'd%' AND param.p IS NULL AND run_id NOT IN ('c')",
        );
        let list = |l: &[&str]| Value::List(l.iter().map(|&s| s.to_owned()).collect());
        let wanted = vec![
            (Entity::Metric, "a b".to_owned(), ">=", Value::Number(-0.5)),
            (Entity::Param, "x".to_owned(), "=", text("y")),
            (Entity::Tag, "mlflow.source".to_owned(), "ILIKE", text("%z")),
            (Entity::Attribute, "status".to_owned(), "!=", text("FAILED")),
            (Entity::Attribute, "run_id".to_owned(), "IN", list(&["a", "b"])),
            (Entity::Tag, "k".to_owned(), "IS NOT NULL", Value::None),
            (Entity::Attribute, "start_time".to_owned(), ">", Value::Int(5)),
            (Entity::Dataset, "name".to_owned(), "LIKE", text("d%")),
            (Entity::Param, "p".to_owned(), "IS NULL", Value::None),
            (Entity::Attribute, "run_id".to_owned(), "NOT IN", list(&["c"])),
        ];
        assert_eq!(all, Ok(wanted));
        assert_eq!(runs(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_as_mlflow_says_it() {
        for (filter, says) in [
            ("metrics.x > 'a'", "Expected numeric value type for metric. Found 'a'"),
            ("params.x = 5", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 5"),
            ("metrics.x > 1 OR metrics.y > 2", "Invalid clause(s) in filter string: 'OR'"),
            (
                "foo.x = 'a'",
                "Invalid entity type 'foo'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']",
            ),
            ("5 > metrics.x", "Invalid comparison clause. Expected 'Identifier' found '5'"),
            (
                "status IN ('a')",
                "Only ['run_id'] attributes support comparison with a list of quoted string values.",
            ),
        ] {
            assert_eq!(runs(filter), Err(says.to_owned()), "{filter}");
        }
    }

    fn of_pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "metrics.x",
            "params.`a b`",
            "tags.\"k",
            "run_id",
            "=",
            "!=",
            "<",
            ">=",
            "LIKE",
            "IN",
            "NOT",
            "IS",
            "NULL",
            "AND",
            "OR",
            "'a'",
            "'",
            "\"b\"",
            "(",
            ")",
            "('a', 'b')",
            "(1)",
            "5",
            "-1.5e3",
            ".",
            "é",
            "`",
            "DESC",
            ";",
            "--",
            "\0",
        ]);
        prop::collection::vec(piece, 0..10).prop_map(|p| p.join(" "))
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_refused(text in prop_oneof![of_pieces(), "\\PC{0,40}"]) {
            for vocabulary in ALL {
                if let Err(e) = parse(&text, vocabulary) {
                    prop_assert!(!e.message.is_empty());
                }
                let _ = order(&text, vocabulary);
            }
        }

        #[test]
        fn a_written_clause_is_read_back(key in "[a-z][a-z0-9 ]{0,8}", value in "[^'\"\\\\\0]{0,12}", n in -1e6..1e6f64) {
            let filter = format!("params.`{key}` = '{value}' AND metrics.\"{key}\" < {n:.3}");
            let read = runs(&filter).unwrap();
            prop_assert_eq!(&read[0], &(Entity::Param, key.clone(), "=", Value::Text(value)));
            let n: f64 = format!("{n:.3}").parse().unwrap();
            prop_assert_eq!(&read[1], &(Entity::Metric, key, "<", Value::Number(n)));
        }
    }
}
