//! Metrics read back: the history of a key, and what was measured of logged models.

use super::entities::value_of;
use super::sql::{Insert, Row, Statement};
use super::{Arg, Metric, Page, SqlTx, TenantTracking, run};
use crate::Error;

/// A value of a run's metric.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetric {
    /// The run's id.
    pub run: String,
    /// The value.
    pub metric: Metric,
}

impl TenantTracking<'_> {
    async fn num(&self, id: &str) -> Result<Option<i64>, Error> {
        let mut s = Statement::new("SELECT num FROM ml_runs WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        self.read(s).await?.first().map(|r| r.int(0)).transpose()
    }

    /// Every value of a key, in the order of times, steps and values; `most` of them from `from` on, or all. A run that there is not
    /// has none.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn history(
        &self,
        id: &str,
        key: &str,
        from: u64,
        most: Option<u64>,
    ) -> Result<Page<Metric>, Error> {
        let Some(num) = self.num(id).await? else { return Ok(Page { items: Vec::new(), next: None }) };
        let mut s = Statement::new("SELECT key, value, nan, at, step FROM ml_metrics WHERE run = ");
        s.bind(num).push(" AND key = ").bind(key).push(" ORDER BY at, step, value LIMIT ");
        let limit = most.map_or(i64::MAX, |n| i64::try_from(n.saturating_add(1)).unwrap_or(i64::MAX));
        s.bind(limit).push(" OFFSET ").bind(i64::try_from(from).unwrap_or(i64::MAX));
        let found = self.read(s).await?.iter().map(metric).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, from, most.unwrap_or(u64::MAX)))
    }

    /// Values of a key of several runs, thinned out: of each run about `most`, the first and the last step among them, and the
    /// same steps of all runs where they have them; between two steps, if any are given.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn histories(
        &self,
        ids: &[String],
        key: &str,
        most: u64,
        between: Option<(i64, i64)>,
    ) -> Result<Vec<RunMetric>, Error> {
        let (low, high) = between.unwrap_or((i64::MIN, i64::MAX));
        let mut found = Vec::new();
        for id in ids {
            let Some(num) = self.num(id).await? else { continue };
            let mut s = Statement::new("SELECT DISTINCT step FROM ml_metrics WHERE run = ");
            s.bind(num).push(" AND key = ").bind(key).push(" AND step BETWEEN ").bind(low);
            s.push(" AND ").bind(high).push(" ORDER BY step");
            let steps = self.read(s).await?.iter().map(|r| r.int(0)).collect::<Result<Vec<_>, _>>()?;
            for steps in sampled(&steps, usize::try_from(most.max(1)).unwrap_or(usize::MAX)).chunks(500) {
                let mut s = Statement::new("SELECT key, value, nan, at, step FROM ml_metrics WHERE run = ");
                s.bind(num).push(" AND key = ").bind(key).push(" AND step IN ").list(steps.iter().copied());
                s.push(" ORDER BY step, at, value");
                for row in self.read(s).await? {
                    found.push(RunMetric { run: id.clone(), metric: metric(&row)? });
                }
            }
        }
        Ok(found)
    }
}

/// Of more steps than wanted every so many, and the last.
fn sampled(steps: &[i64], most: usize) -> Vec<i64> {
    if steps.len() <= most {
        return steps.to_vec();
    }
    let every = steps.len().div_ceil(most);
    let mut some: Vec<i64> = steps.iter().copied().step_by(every).collect();
    if let Some(&last) = steps.last()
        && some.last() != Some(&last)
    {
        some.push(last);
    }
    some
}

fn metric(row: &Row) -> Result<Metric, Error> {
    let value = value_of(row.real(1)?, row.int(2)? != 0);
    Ok(Metric::new(row.text(0)?, value, row.int(3)?, row.int(4)?))
}

/// Keeps the metrics that are of logged models of the tenant. What is of a model that there is not is of its run alone.
pub(super) async fn of_models(
    tx: &mut dyn SqlTx,
    (tenant, num, experiment): (&str, i64, i64),
    metrics: &[Metric],
) -> Result<(), Error> {
    let of = metrics.iter().filter(|m| m.model.is_some());
    let mut models: Vec<(&str, i64)> = Vec::new();
    let mut rows: Vec<Arg> = Vec::new();
    for m in of {
        let id = m.model.as_deref().unwrap_or_default();
        let known = models.iter().find(|(known, _)| *known == id).map(|(_, num)| *num);
        let model = match known {
            Some(model) => model,
            None => {
                let mut s = Statement::new("SELECT num FROM ml_models WHERE tenant = ");
                s.bind(tenant).push(" AND id = ").bind(id);
                let Some(found) = run(tx, s).await?.first().map(|r| r.int(0)).transpose()? else { continue };
                models.push((id, found));
                found
            }
        };
        let (value, nan) = m.stored();
        rows.extend([Arg::from(model), Arg::from(&m.key), m.at.into(), m.step.into(), num.into()]);
        rows.extend([Arg::from(experiment), Arg::from(value), Arg::from(i64::from(nan))]);
        rows.extend([Arg::from(&m.dataset.0), Arg::from(&m.dataset.1)]);
    }
    let head =
        "INSERT INTO ml_model_metrics (model, key, at, step, run, experiment, value, nan, dataset, digest)";
    tx.insert(vec![Insert::new(head, 10, " ON CONFLICT DO NOTHING", rows)]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_is_thinned_and_keeps_its_ends() {
        let steps: Vec<i64> = (0..100).collect();
        assert_eq!(sampled(&steps, 200).len(), 100);
        let some = sampled(&steps, 10);
        assert_eq!((some.first(), some.last()), (Some(&0), Some(&99)));
        assert!(some.len() <= 11);
    }
}
