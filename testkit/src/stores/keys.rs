//! What every [`KeyStore`](store::KeyStore) must do.

use contract::UnixMillis;
use futures_util::future::join_all;
use store::{KeyRing, NewKey, Refusal, Role};

use super::Subject;

pub async fn a_key_opens_until_it_is_revoked_or_expires(on: &Subject) {
    let s = &*on.keys();
    let new = |name: &str, expires_at| NewKey {
        name: name.to_owned(),
        tenant: "gold".into(),
        role: Role::User,
        expires_at,
    };
    let fill = |b: u8| {
        move |bytes: &mut [u8]| -> Result<(), store::Error> {
            bytes.fill(b);
            Ok(())
        }
    };
    let ring = KeyRing::load(s).await.unwrap();
    assert!(ring.is_empty());
    let (a, secret) = store::create_key(s, new("a", None), UnixMillis(5), fill(1)).await.unwrap();
    let (_, brief) =
        store::create_key(s, new("b", Some(UnixMillis(9))), UnixMillis(6), fill(2)).await.unwrap();
    let text = secret.expose();
    assert!(text.starts_with(&format!("fbk_{}_", a.id)) && text.len() == 4 + 12 + 1 + 43);
    assert_eq!(ring.check(text, UnixMillis(7)), Err(Refusal::Unknown), "not yet seen");
    assert!(ring.refresh(s).await.unwrap());
    assert!(!ring.refresh(s).await.unwrap(), "nothing changed");
    assert_eq!(ring.check(text, UnixMillis(7)).unwrap().tenant, "gold".into());
    assert!(ring.check(brief.expose(), UnixMillis(8)).is_ok());
    assert_eq!(ring.check(brief.expose(), UnixMillis(9)), Err(Refusal::Expired));
    let mut wrong = text.to_owned();
    wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('A') { "B" } else { "A" });
    assert_eq!(ring.check(&wrong, UnixMillis(7)), Err(Refusal::Unknown));
    for odd in ["", "fbk_", "sk-123", "fbk_é_", &text[..text.len() - 1]] {
        assert_eq!(ring.check(odd, UnixMillis(7)), Err(Refusal::Malformed));
    }
    assert_eq!(s.revoke(&a.id, UnixMillis(20)).await.unwrap().revoked_at, Some(UnixMillis(20)));
    assert_eq!(s.revoke(&a.id, UnixMillis(30)).await.unwrap().revoked_at, Some(UnixMillis(20)));
    assert!(matches!(s.revoke(&"nobody".into(), UnixMillis(1)).await, Err(store::Error::UnknownKey(_))));
    ring.refresh(s).await.unwrap();
    assert_eq!(ring.check(text, UnixMillis(7)), Err(Refusal::Revoked));
    assert_eq!(s.list().await.unwrap().iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

pub async fn keys_made_at_once_are_all_there_and_each_is_seen(on: &Subject) {
    let s = &*on.keys();
    let before = s.version().await.unwrap();
    let new = |n: usize| NewKey {
        name: format!("{n}"),
        tenant: "gold".into(),
        role: Role::Admin,
        expires_at: None,
    };
    let make = |n| store::create_key(s, new(n), UnixMillis(5), store::os_random);
    let made = join_all((0..8).map(make)).await;
    let ring = KeyRing::load(s).await.unwrap();
    for (key, secret) in made.into_iter().map(Result::unwrap) {
        assert_eq!(ring.check(secret.expose(), UnixMillis(6)).unwrap().id, key.id);
        assert_eq!(key.role, Role::Admin);
    }
    assert_eq!(s.version().await.unwrap(), before + 8);
    let first = s.list().await.unwrap().swap_remove(0);
    assert!(s.add(&first, store::KeyHash([0; 32])).await.is_err(), "the id is taken");
    assert_eq!(s.version().await.unwrap(), before + 8);
}
