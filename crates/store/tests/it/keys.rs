//! Keys over two openings of one folder, as by a server and the command line.

use contract::UnixMillis;
use store::{NewKey, Reader, Refusal, Role, create_key, os_random};

use crate::fixtures::open;

#[tokio::test]
async fn a_key_revoked_beside_a_running_server_is_refused_within_a_second() {
    let project = tempfile::tempdir().unwrap();
    let server = open(project.path()).await;
    let other = Reader::open(project.path()).await.unwrap();
    let act = async {
        let new = NewKey { name: "ci".to_owned(), tenant: "gold".into(), role: Role::User, expires_at: None };
        let (info, secret) = create_key(&*other.keys, new, UnixMillis(1), os_random).await.unwrap();
        let until = async |wanted: Result<(), Refusal>| {
            while server.keys.check(secret.expose(), UnixMillis(2)).map(|_| ()) != wanted {
                tokio::task::yield_now().await;
            }
        };
        let second = std::time::Duration::from_secs(1);
        tokio::time::timeout(second, until(Ok(()))).await.unwrap();
        other.keys.revoke(&info.id, UnixMillis(3)).await.unwrap();
        tokio::time::timeout(second, until(Err(Refusal::Revoked))).await.unwrap();
        server.ledger.close();
        let shown = format!("{secret:?} {secret} {:?}", other.keys.snapshot().await.unwrap());
        assert!(!shown.contains(secret.expose()));
    };
    tokio::join!(server.background(), act).0.unwrap();
}
