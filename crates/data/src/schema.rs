//! Columns and their types, as a person declares them and as they are stored.
//!
//! There are fewer types here than in Arrow, on purpose: a CSV and a Parquet file with the same values have to give the same
//! dataset, so every integer is 64 bits wide, every float is a double, and every text is UTF-8. Every column may hold nulls;
//! that some may not is an expectation, which says so with a reason.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, TimeUnit};

use crate::Error;

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `bool`
    Bool,
    /// `int`: 64 bits, signed.
    Int,
    /// `float`: a double.
    Float,
    /// `decimal(precision, scale)`: exact, up to 38 digits.
    Decimal(u8, i8),
    /// `text`: UTF-8.
    Text,
    /// `binary`
    Binary,
    /// `date`: a day, without a zone.
    Date,
    /// `timestamp`: an instant, in microseconds, kept in UTC.
    Timestamp,
    /// `datetime`: what a clock on a wall showed, in microseconds, without a zone.
    DateTime,
    /// `list<…>`
    List(Box<ColumnType>),
    /// `struct<name: …, …>`
    Struct(Vec<Column>),
}

/// A column: a name and a type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// The name, as it is: case matters.
    pub name: String,
    /// The type.
    pub ty: ColumnType,
}

/// The columns of a dataset, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Schema {
    /// The columns.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of that name, which `of` has to have.
    pub(crate) fn named(&self, name: &str, of: &str) -> Result<&Column, Error> {
        self.column(name).ok_or_else(|| {
            let names: Vec<_> = self.names().collect();
            Error::invalid(format!("the column `{name}`"), format!("`{of}` has {}", names.join(", ")))
        })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub(crate) fn to_arrow(&self) -> Arc<ArrowSchema> {
        let fields: Vec<Field> =
            self.columns.iter().map(|c| Field::new(&c.name, c.ty.to_arrow(), true)).collect();
        Arc::new(ArrowSchema::new(fields))
    }

    /// The same, texts as views: as a scan gives them without a copy.
    pub(crate) fn to_views(&self) -> Arc<ArrowSchema> {
        let view = |c: &Column| match c.ty {
            ColumnType::Text => Field::new(&c.name, DataType::Utf8View, true),
            _ => Field::new(&c.name, c.ty.to_arrow(), true),
        };
        Arc::new(ArrowSchema::new(self.columns.iter().map(view).collect::<Vec<_>>()))
    }

    /// The columns that an Arrow schema holds, or the name and type of the first that a dataset cannot hold.
    pub(crate) fn from_arrow(schema: &ArrowSchema) -> Result<Schema, (String, String)> {
        let columns = schema.fields().iter().map(|field| column(field)).collect::<Result<_, _>>()?;
        Ok(Schema { columns })
    }
}

fn column(field: &Field) -> Result<Column, (String, String)> {
    let ty = ColumnType::from_arrow(field.data_type())
        .ok_or_else(|| (field.name().clone(), field.data_type().to_string()))?;
    Ok(Column { name: field.name().clone(), ty })
}

impl ColumnType {
    pub(crate) fn to_arrow(&self) -> DataType {
        match self {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Int => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            ColumnType::Text => DataType::Utf8,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::List(of) => DataType::List(Arc::new(Field::new("element", of.to_arrow(), true))),
            ColumnType::Struct(columns) => {
                DataType::Struct(columns.iter().map(|c| Field::new(&c.name, c.ty.to_arrow(), true)).collect())
            }
        }
    }

    /// The type that holds every value of an Arrow type; `None` for what a Delta table has no type for.
    pub(crate) fn from_arrow(ty: &DataType) -> Option<ColumnType> {
        Some(match ty {
            DataType::Boolean => ColumnType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ColumnType::Int,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => ColumnType::Int,
            DataType::UInt64 => ColumnType::Decimal(20, 0),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Float,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
                ColumnType::Decimal(*p, *s)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => ColumnType::Text,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => ColumnType::Binary,
            DataType::Date32 | DataType::Date64 => ColumnType::Date,
            DataType::Timestamp(_, Some(_)) => ColumnType::Timestamp,
            DataType::Timestamp(_, None) => ColumnType::DateTime,
            DataType::Dictionary(_, of) => ColumnType::from_arrow(of)?,
            DataType::RunEndEncoded(_, of) => ColumnType::from_arrow(of.data_type())?,
            DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
                ColumnType::List(Box::new(ColumnType::from_arrow(of.data_type())?))
            }
            DataType::Struct(fields) => ColumnType::Struct(struct_columns(fields)?),
            _ => return None,
        })
    }
}

fn struct_columns(fields: &Fields) -> Option<Vec<Column>> {
    fields
        .iter()
        .map(|f| Some(Column { name: f.name().clone(), ty: ColumnType::from_arrow(f.data_type())? }))
        .collect()
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int => f.write_str("int"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Decimal(precision, scale) => write!(f, "decimal({precision}, {scale})"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Binary => f.write_str("binary"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::DateTime => f.write_str("datetime"),
            ColumnType::List(of) => write!(f, "list<{of}>"),
            ColumnType::Struct(columns) => {
                f.write_str("struct<")?;
                for (i, column) in columns.iter().enumerate() {
                    write!(f, "{}{}: {}", if i > 0 { ", " } else { "" }, column.name, column.ty)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// The types a person can declare: all but `struct`, which only sources that carry their own schema have.
impl FromStr for ColumnType {
    type Err = Error;

    fn from_str(text: &str) -> Result<ColumnType, Error> {
        let text = text.trim();
        let unknown = || {
            Error::invalid(
                format!("the type `{text}`"),
                "the types are bool, int, float, decimal(precision, scale), text, binary, date, timestamp (an \
                 instant), datetime (without a zone) and list<type>",
            )
        };
        Ok(match text {
            "bool" | "boolean" => ColumnType::Bool,
            "int" | "integer" => ColumnType::Int,
            "float" => ColumnType::Float,
            "text" | "string" => ColumnType::Text,
            "binary" => ColumnType::Binary,
            "date" => ColumnType::Date,
            "timestamp" => ColumnType::Timestamp,
            "datetime" => ColumnType::DateTime,
            _ => {
                if let Some(of) = text.strip_prefix("list<").and_then(|t| t.strip_suffix('>')) {
                    return Ok(ColumnType::List(Box::new(of.parse()?)));
                }
                let digits = text.strip_prefix("decimal(").and_then(|t| t.strip_suffix(')'));
                let (precision, scale) = digits.and_then(|d| d.split_once(',')).ok_or_else(unknown)?;
                let precision: u8 = precision.trim().parse().map_err(|_| unknown())?;
                let scale: i8 = scale.trim().parse().map_err(|_| unknown())?;
                if !(1..=38).contains(&precision) || scale < 0 || i16::from(scale) > i16::from(precision) {
                    return Err(unknown());
                }
                ColumnType::Decimal(precision, scale)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn types() -> impl Strategy<Value = ColumnType> {
        let leaf = prop_oneof![
            Just(ColumnType::Bool),
            Just(ColumnType::Int),
            Just(ColumnType::Float),
            Just(ColumnType::Text),
            Just(ColumnType::Binary),
            Just(ColumnType::Date),
            Just(ColumnType::Timestamp),
            Just(ColumnType::DateTime),
            (1u8..=38, 0i8..=38)
                .prop_filter("scale", |(p, s)| i16::from(*s) <= i16::from(*p))
                .prop_map(|(p, s)| ColumnType::Decimal(p, s)),
        ];
        leaf.prop_recursive(3, 8, 1, |of| of.prop_map(|of| ColumnType::List(Box::new(of))))
    }

    proptest! {
        #[test]
        fn a_type_reads_back_as_it_is_printed(ty in types()) {
            prop_assert_eq!(ty.to_string().parse::<ColumnType>().unwrap(), ty);
        }

        #[test]
        fn a_type_survives_arrow(ty in types()) {
            prop_assert_eq!(ColumnType::from_arrow(&ty.to_arrow()), Some(ty));
        }

        #[test]
        fn no_text_breaks_the_parser_of_types(text in "\\PC{0,24}") {
            let _ = text.parse::<ColumnType>();
        }
    }

    #[test]
    fn an_unknown_type_is_answered_with_those_there_are() {
        let said = "varchar".parse::<ColumnType>().unwrap_err().to_string();
        assert!(said.contains("`varchar`") && said.contains("datetime"), "{said}");
    }
}
