//! The filters and orders of MLflow's searches: text in, clauses out, or what is wrong with it in MLflow's words.
//!
//! A filter is comparisons with `AND` between. What a name may be and how it may be compared depends on what is searched: that is
//! [`Vocabulary`]. It is pure, takes any text without a panic [test: any_text_is_a_filter_or_refused], and nothing of the text
//! becomes SQL: names and values are bound.

mod clause;
mod lex;
mod list;
mod order;
mod vocabulary;

pub use clause::parse;
pub use order::order;
pub use vocabulary::Vocabulary;

/// What a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A column of the thing itself.
    Attribute,
    /// A metric.
    Metric,
    /// A parameter.
    Param,
    /// A tag.
    Tag,
    /// A dataset that it read.
    Dataset,
}

impl Entity {
    /// As messages call it.
    const fn name(self) -> &'static str {
        match self {
            Entity::Attribute => "attribute",
            Entity::Metric => "metric",
            Entity::Param => "parameter",
            Entity::Tag => "tag",
            Entity::Dataset => "dataset",
        }
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    Ilike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

impl Op {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::LessOrEqual => "<=",
            Op::Greater => ">",
            Op::GreaterOrEqual => ">=",
            Op::Like => "LIKE",
            Op::Ilike => "ILIKE",
            Op::In => "IN",
            Op::NotIn => "NOT IN",
            Op::IsNull => "IS NULL",
            Op::IsNotNull => "IS NOT NULL",
        }
    }

    const ALL: [Op; 12] = [
        Op::Equal,
        Op::NotEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::Greater,
        Op::GreaterOrEqual,
        Op::Like,
        Op::Ilike,
        Op::In,
        Op::NotIn,
        Op::IsNull,
        Op::IsNotNull,
    ];

    fn of(text: &str) -> Option<Op> {
        Op::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(text))
    }
}

/// What something is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text, without its quotes.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Number(f64),
    /// One of these texts.
    List(Vec<String>),
    /// Nothing: of `IS NULL`.
    None,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// About what.
    pub entity: Entity,
    /// Its name.
    pub key: String,
    /// How.
    pub op: Op,
    /// With what.
    pub value: Value,
}

/// One place in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is looked at.
    pub entity: Entity,
    /// Its name.
    pub key: String,
    /// Smallest first.
    pub ascending: bool,
}

/// Texts as Python shows a set of them.
fn shown(words: &[&str], open: &str, close: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    format!("{open}{}{close}", quoted.join(", "))
}
