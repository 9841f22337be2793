use parking_lot::Mutex;

use super::*;
use crate::datatype::DataType;

#[derive(Default)]
struct Seen {
    answers: Mutex<Vec<Arc<Answered>>>,
    told: Mutex<Vec<Told>>,
}

impl Observer for Seen {
    fn answered(&self, answered: &Arc<Answered>) {
        self.answers.lock().push(answered.clone());
    }

    fn told<'a>(&'a self, told: &'a [Told]) -> BoxFuture<'a, Result<(), Error>> {
        self.told.lock().extend_from_slice(told);
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Full;

impl Observer for Full {
    fn answered(&self, _: &Arc<Answered>) {}

    fn told<'a>(&'a self, _: &'a [Told]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Err(Error::new(Code::Overloaded, "no room"))))
    }
}

fn answered(id: &str, elements: usize) -> Answered {
    let tensor = Tensor::of(DataType::Uint8, vec![elements as i64], vec![0_u8; elements]).unwrap();
    Answered {
        id: id.into(),
        at: UnixMillis(1),
        took: Duration::from_millis(1),
        tenant: "default".into(),
        model: "m".into(),
        registered: None,
        version: "1".into(),
        arm: Arm::Champion,
        place: None,
        entity: None,
        inputs: [NamedTensor { name: "x".into(), tensor }].into(),
        outputs: Arc::new([]),
        figures: Arc::default(),
        words: Arc::default(),
        error: None,
    }
}

fn told() -> Told {
    Told {
        tenant: "default".into(),
        id: "1".into(),
        row: 0,
        label: Some(Label::Number(1.0)),
        name: "score".into(),
        score: None,
        comment: None,
        at: UnixMillis(2),
    }
}

#[tokio::test]
async fn every_observer_sees_every_answer_in_order() {
    let (all, one, two) = (Observers::default(), Arc::new(Seen::default()), Arc::new(Seen::default()));
    assert!(!all.any());
    all.answered(answered("nobody looks", 1));
    all.watch(vec![one.clone(), two.clone()]);
    assert!(all.any());
    for id in ["1", "2", "3"] {
        all.answered(answered(id, 1));
    }
    while two.answers.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    for seen in [one, two] {
        let ids: Vec<_> = seen.answers.lock().iter().map(|a| a.id.to_string()).collect();
        assert_eq!(ids, ["1", "2", "3"]);
    }
    assert_eq!(all.dropped(), 0);
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted() {
    let (all, seen) = (Observers::default(), Arc::new(Seen::default()));
    all.watch(vec![seen.clone()]);
    // The task has no turn in between: this is one thread.
    for _ in 0..WAITING + 5 {
        all.answered(answered("1", 1));
    }
    assert_eq!(all.dropped(), 5);
    while seen.answers.lock().len() < WAITING {
        tokio::task::yield_now().await;
    }
    all.answered(answered("too large", BYTES + 1));
    assert_eq!(all.dropped(), 6);
    all.answered(answered("large", BYTES));
    assert_eq!(all.dropped(), 6, "what was seen holds no room");
}

#[tokio::test]
async fn what_is_told_is_acknowledged_when_all_have_it() {
    let (all, seen) = (Observers::default(), Arc::new(Seen::default()));
    all.told(&[told()]).await.unwrap();
    all.watch(vec![seen.clone(), Arc::new(Full)]);
    assert_eq!(all.told(&[told()]).await.unwrap_err().code, Code::Overloaded);
    assert_eq!(seen.told.lock().len(), 1);
    all.watch(vec![seen.clone()]);
    all.told(&[told(), told()]).await.unwrap();
    assert_eq!(seen.told.lock().len(), 3);
}
