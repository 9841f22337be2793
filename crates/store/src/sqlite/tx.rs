//! A change of the database in few ways to its connection's thread. Each way there and back costs more than most statements do, so
//! that the first statements of a change take its beginning along, and the last its end.
//!
//! A change is synced, or its commit is with the operating system alone: then it may be lost with the machine's power, though not
//! with the process, and never without what came before it. Dropped, a change leaves nothing.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite};

use super::{Database, Script};
use crate::Error;

/// A change. Statements of one script end with `;`.
#[derive(Debug)]
pub(super) struct Tx {
    conn: PoolConnection<Sqlite>,
    /// Of a change that is not synced: the connection of those that are, so that nobody else writes. SQLite has one writer, and a
    /// second that finds the lock taken sleeps instead of waiting.
    _turn: Option<PoolConnection<Sqlite>>,
    begun: bool,
    done: bool,
}

impl Drop for Tx {
    fn drop(&mut self) {
        if self.begun && !self.done {
            // That rolls back what is open, whoever comes next; another connection takes its place.
            self.conn.close_on_drop();
        }
    }
}

impl Database {
    /// A change: `synced` to the disk when it is committed, or with the operating system.
    pub(super) async fn change(&self, synced: bool) -> Result<Tx, Error> {
        let turn = self.write.acquire().await?;
        let (conn, _turn) = if synced { (turn, None) } else { (self.unsynced.acquire().await?, Some(turn)) };
        Ok(Tx { conn, _turn, begun: false, done: false })
    }
}

/// Behind a statement that changes rows: unless it changed some, the whole change is not made ([`Error::is_off`]).
pub(super) fn or_nothing(script: &mut Script) {
    script.push("INSERT INTO expected (met) SELECT 0 WHERE changes() = 0; ");
}

impl Tx {
    /// What comes before the next statements, and where they go.
    fn next(&mut self) -> (&'static str, &mut SqliteConnection) {
        let before = if std::mem::replace(&mut self.begun, true) { "" } else { "BEGIN IMMEDIATE; " };
        (before, &mut self.conn)
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
    async fn take_back(mut self) -> Result<(), Error> {
        if self.begun {
            sqlx::query("ROLLBACK").execute(&mut *self.conn).await?;
            self.done = true;
        }
        Ok(())
    }

    /// Runs statements and ends the change. What fails leaves nothing.
    pub(super) async fn finish(mut self, build: impl FnOnce(&mut Script)) -> Result<(), Error> {
        let (before, conn) = self.next();
        let mut script = Script::new(before);
        build(&mut script);
        script.push("COMMIT");
        if let Err(e) = script.build().execute(conn).await {
            self.take_back().await.ok();
            return Err(e.into());
        }
        self.done = true;
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
    async fn a_change_that_is_decided_on_what_is_no_more_is_not_made() {
        let (_folder, db) = opened().await;
        db.change(true).await.unwrap().finish(set("a")).await.unwrap();
        for synced in [false, true] {
            let rename = |from: &'static str, to: &'static str| {
                move |script: &mut Script| {
                    script.push("UPDATE triggers SET pipeline = ").push_bind(to);
                    script.push(" WHERE pipeline = ").push_bind(from).push("; ");
                    or_nothing(script);
                    set(if synced { "beside" } else { "next" })(script);
                }
            };
            let e = db.change(synced).await.unwrap().finish(rename("nobody", "c")).await.unwrap_err();
            assert!(e.is_off(), "{e}");
            assert_eq!(names(&db).await.len(), if synced { 2 } else { 1 }, "nothing of it is there");
            let (from, to) = if synced { ("b", "a") } else { ("a", "b") };
            db.change(synced).await.unwrap().finish(rename(from, to)).await.unwrap();
        }
        assert_eq!(names(&db).await, ["a", "beside", "next"]);
        let e = db.change(true).await.unwrap().finish(set("a")).await.unwrap_err();
        assert!(!e.is_off(), "{e}");
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
