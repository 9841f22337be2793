//! One place of an order: ``metrics.`a b` DESC``.

use super::clause::identifier;
use super::lex::{Sort, tokens};
use super::{Entity, Order, Vocabulary, shown};
use crate::tracking::Refused;

/// Reads one.
///
/// # Errors
/// What is wrong with it, as MLflow says it.
pub fn order(text: &str, vocabulary: Vocabulary) -> Result<Order, Refused> {
    let unread = || Refused::invalid(format!("Invalid order_by clause '{text}'. Could not be parsed."));
    let all = tokens(text);
    let (name, direction) = match all.as_slice() {
        [name] => (name, None),
        [name, direction] => (name, Some(direction)),
        _ => return Err(unread()),
    };
    if name.sort != Sort::Name || direction.is_some_and(|d| d.sort != Sort::Name) {
        return Err(unread());
    }
    let ascending = match direction.map(|d| d.text.to_lowercase()).as_deref() {
        None | Some("asc") => true,
        Some("desc") => false,
        Some(_) => {
            return Err(Refused::invalid(format!("Invalid ordering key in order_by clause '{text}'.")));
        }
    };
    let wanted = match vocabulary {
        // Its attributes are names alone.
        Vocabulary::RegisteredModels => {
            let plain = name.text.replace('`', "");
            if !vocabulary.orderable().contains(&plain.as_str()) {
                let valid = shown(&["name", "timestamp"], "{", "}");
                let m = format!("Invalid order by key '{plain}' specified. Valid keys are '{valid}'");
                return Err(Refused::invalid(m));
            }
            (Entity::Attribute, plain)
        }
        Vocabulary::ModelVersions => identifier(name.text, Vocabulary::Experiments, vocabulary.orderable())?,
        _ => identifier(name.text, vocabulary, vocabulary.orderable())?,
    };
    let (entity, key) = wanted;
    let known = match vocabulary {
        Vocabulary::Runs => entity != Entity::Dataset,
        Vocabulary::LoggedModels => matches!(entity, Entity::Attribute | Entity::Metric),
        _ => entity == Entity::Attribute,
    };
    if !known {
        return Err(Refused::invalid(match vocabulary {
            Vocabulary::Runs => format!("Invalid identifier type '{}'", entity.name()),
            _ => format!("Invalid order_by entity: {}", entity.name()),
        }));
    }
    Ok(Order { entity, key, ascending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_name_and_a_direction() {
        let read = |t: &str| {
            order(t, Vocabulary::Runs).map(|o| (o.entity, o.key, o.ascending)).map_err(|e| e.message)
        };
        assert_eq!(read("metrics.`a b` DESC"), Ok((Entity::Metric, "a b".to_owned(), false)));
        assert_eq!(read("attributes.start_time asc"), Ok((Entity::Attribute, "start_time".to_owned(), true)));
        assert_eq!(read("params.p"), Ok((Entity::Param, "p".to_owned(), true)));
        assert_eq!(
            read("metrics.x foo"),
            Err("Invalid ordering key in order_by clause 'metrics.x foo'.".to_owned())
        );
        assert_eq!(
            read("metrics.x DESC NULLS"),
            Err("Invalid order_by clause 'metrics.x DESC NULLS'. Could not be parsed.".to_owned())
        );
    }
}
