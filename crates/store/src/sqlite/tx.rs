//! A change of the database in few ways to its connection's thread. Each way there and back costs more than most statements do, so
//! that the first statements of a change take its beginning along, and the last its end.
//!
//! A change is synced, or its commit is with the operating system alone: then it may be lost with the machine's power, though not
//! with the process, and never without what came before it. Dropped, a change leaves nothing.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use super::{Database, Script};
use crate::Error;

/// A change. Statements of one script end with `;`.
#[derive(Debug)]
pub(super) struct Tx(Kind);

#[derive(Debug)]
enum Kind {
    Synced(Transaction<'static, Sqlite>),
    Unsynced(Unsynced),
}

#[derive(Debug)]
struct Unsynced {
    conn: PoolConnection<Sqlite>,
    /// The connection of changes that are synced, so that nobody else writes: SQLite has one writer, and a second that finds the
    /// lock taken sleeps instead of waiting.
    _turn: PoolConnection<Sqlite>,
    begun: bool,
    done: bool,
}

impl Drop for Unsynced {
    fn drop(&mut self) {
        if self.begun && !self.done {
            // That rolls back what is open, whoever comes next; another connection takes its place.
            self.conn.close_on_drop();
        }
    }
}

impl Database {
    /// A change, with the lock of writers: `synced` to the disk when it is committed, or with the operating system.
    pub(super) async fn change(&self, synced: bool) -> Result<Tx, Error> {
        if synced {
            return Ok(Tx(Kind::Synced(self.begin().await?)));
        }
        let turn = self.write.acquire().await?;
        let conn = self.unsynced.acquire().await?;
        Ok(Tx(Kind::Unsynced(Unsynced { conn, _turn: turn, begun: false, done: false })))
    }
}

impl Tx {
    /// What comes before the next statements, and where they go.
    fn next(&mut self) -> (&'static str, &mut SqliteConnection) {
        match &mut self.0 {
            Kind::Synced(tx) => ("", tx),
            Kind::Unsynced(of) => {
                let before = if std::mem::replace(&mut of.begun, true) { "" } else { "BEGIN IMMEDIATE; " };
                (before, &mut of.conn)
            }
        }
    }

    /// Runs statements that `build` appends to a script; the rows of all.
    pub(super) async fn run(&mut self, build: impl FnOnce(&mut Script)) -> Result<Vec<SqliteRow>, Error> {
        let (before, conn) = self.next();
        let mut script = Script::new(before);
        build(&mut script);
        Ok(script.build().fetch_all(conn).await?)
    }

    /// Runs one statement with places `$n`; its rows.
    pub(super) async fn fetch(&mut self, sql: &str, args: SqliteArguments) -> Result<Vec<SqliteRow>, Error> {
        let (before, conn) = self.next();
        let sql = AssertSqlSafe(format!("{before}{sql}"));
        Ok(sqlx::query_with(sql, args).fetch_all(conn).await?)
    }

    /// The connection, for statements that stand alone.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        let (before, conn) = self.next();
        if !before.is_empty() {
            sqlx::query(before).execute(&mut *conn).await?;
        }
        Ok(conn)
    }

    /// Takes everything back. So does dropping it, at the price of another connection.
    pub(super) async fn take_back(self) -> Result<(), Error> {
        match self.0 {
            Kind::Synced(tx) => tx.rollback().await?,
            Kind::Unsynced(mut of) => {
                if of.begun {
                    sqlx::query("ROLLBACK").execute(&mut *of.conn).await?;
                    of.done = true;
                }
            }
        }
        Ok(())
    }

    /// Runs statements and ends the change.
    pub(super) async fn finish(mut self, build: impl FnOnce(&mut Script)) -> Result<(), Error> {
        let (before, _) = self.next();
        let mut script = Script::new(before);
        build(&mut script);
        match self.0 {
            Kind::Synced(mut tx) => {
                if !script.sql().as_str().is_empty() {
                    script.build().execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
            Kind::Unsynced(mut of) => {
                script.push("COMMIT");
                script.build().execute(&mut *of.conn).await?;
                of.done = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("forebay.db")).await.unwrap();
        (folder, db)
    }

    async fn names(db: &Database) -> Vec<String> {
        let all = sqlx::query_scalar("SELECT pipeline FROM triggers ORDER BY pipeline");
        all.fetch_all(&db.read).await.unwrap()
    }

    fn set(name: &str) -> impl FnOnce(&mut Script) {
        move |script| {
            script.push("INSERT INTO triggers (pipeline, version, memory) VALUES (").push_bind(name);
            script.push(", 1, ''); ");
        }
    }

    #[tokio::test]
    async fn a_change_is_whole_when_it_is_finished_and_nothing_when_it_is_dropped() {
        let (folder, db) = opened().await;
        let other = Database::open(&folder.path().join("forebay.db")).await.unwrap();
        for synced in [false, true] {
            let name = |n: u32| format!("{synced}{n}");
            let (one, two, three) = (name(1), name(2), name(3));
            let before = names(&db).await;
            let mut tx = db.change(synced).await.unwrap();
            tx.run(set(&one)).await.unwrap();
            tx.take_back().await.unwrap();
            db.change(synced).await.unwrap().take_back().await.unwrap();
            let mut tx = db.change(synced).await.unwrap();
            tx.run(set(&one)).await.unwrap();
            sqlx::query("DELETE FROM meta WHERE name = 'x'")
                .execute(tx.connection().await.unwrap())
                .await
                .unwrap();
            assert_eq!(names(&db).await, before, "nobody sees what is not committed");
            tx.finish(set(&two)).await.unwrap();
            let whole = names(&db).await;
            assert_eq!(whole.len(), before.len() + 2);

            let mut tx = db.change(synced).await.unwrap();
            tx.run(set(&three)).await.unwrap();
            drop(tx);
            // Another process does not wait for this one's next change.
            let key = format!("{synced} elsewhere");
            other.change(true).await.unwrap().finish(set(&key)).await.unwrap();
            let whole = names(&db).await;
            // What failed is nothing either, and nobody is in its way.
            let mut tx = db.change(synced).await.unwrap();
            tx.run(set(&three)).await.unwrap();
            assert!(tx.finish(set(&one)).await.is_err(), "it is there already");
            assert_eq!(names(&db).await, whole);
            db.change(!synced).await.unwrap().finish(|_| ()).await.unwrap();
            db.change(synced).await.unwrap().finish(set(&three)).await.unwrap();
            assert_eq!(names(&db).await.len(), whole.len() + 1);
        }
    }

    #[tokio::test]
    async fn what_is_left_at_any_moment_is_whole_or_nothing_and_the_next_change_is_made() {
        let (_folder, db) = opened().await;
        let mut whole = 0;
        for n in 0..200_u64 {
            let (one, two) = (format!("{n}a"), format!("{n}b"));
            let change = async {
                let mut tx = db.change(false).await.unwrap();
                tx.run(set(&one)).await.unwrap();
                tx.finish(set(&two)).await.unwrap();
            };
            let patience = std::time::Duration::from_micros(n * 5);
            let _ = tokio::time::timeout(patience, change).await;
            // Who comes next may go too, while he makes room for himself.
            let next = async { db.change(n % 3 == 0).await.unwrap().finish(|_| ()).await };
            let _ = tokio::time::timeout(patience / 3, next).await;
            let last = format!("{n}c");
            db.change(n % 2 == 0).await.unwrap().finish(set(&last)).await.unwrap();
            let all = names(&db).await;
            assert!(all.contains(&last), "{n}");
            assert_eq!(all.contains(&one), all.contains(&two), "{n}: half of a change");
            whole += usize::from(all.contains(&one));
        }
        eprintln!("{whole} of 200 were whole");
    }
}
