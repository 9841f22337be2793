//! Every fault does what it says, on both protocols.

use std::time::Duration;

use testkit::{Beyond, CutHow, EndedHow, Fault, FaultRule, Handle, Places, Scenario, Script};

use crate::raw::{Answer, ask, chat, message, post, send, start};

async fn wall(scenario: Scenario) -> Handle {
    let script =
        Script { scenario: Some(scenario), tokens: Some(60), time_scale: 1000.0, ..Script::default() };
    start(script).await
}

async fn with(fault: Fault) -> Handle {
    start(Script { faults: vec![FaultRule::always(fault)], tokens: Some(60), ..Script::default() }).await
}

fn words(answer: &Answer) -> usize {
    answer.text().split_whitespace().count()
}

async fn both(fake: &Handle, stream: bool) -> [Answer; 2] {
    [ask(fake, &chat(stream)).await, post(fake, "/v1/messages", &message(stream)).await]
}

#[tokio::test]
async fn s01_refuses_once_with_retry_after() {
    let fake = start(Script { scenario: Some(Scenario::S01), ..Script::default() }).await;
    let first = ask(&fake, &chat(true)).await;
    assert_eq!(first.status, 429);
    assert!(first.head.contains("retry-after: 2\r\n"), "{}", first.head);
    assert_eq!(first.json()["error"]["code"], "rate_limit_exceeded");
    assert!(ask(&fake, &chat(true)).await.done());
}

#[tokio::test]
async fn s02_to_s04_answer_their_status_once_or_for_good() {
    for (scenario, statuses) in
        [(Scenario::S02, [429, 429, 429]), (Scenario::S03, [500, 200, 200]), (Scenario::S04, [503, 503, 503])]
    {
        let fake = wall(scenario).await;
        for status in statuses {
            assert_eq!(ask(&fake, &chat(true)).await.status, status, "{scenario:?}");
        }
    }
    let fake = wall(Scenario::S02).await;
    let answer = post(&fake, "/v1/messages", &message(true)).await;
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn s05_resets_the_connection() {
    let fake = wall(Scenario::S05).await;
    let answer = ask(&fake, &chat(true)).await;
    assert!(answer.reset && answer.head.is_empty(), "{answer:?}");
    assert_eq!(fake.wait_for_end(1).await.unwrap().how, EndedHow::Reset);
}

#[tokio::test]
async fn s06_is_silent_for_its_time_and_closes() {
    let fake = wall(Scenario::S06).await;
    let answer = ask(&fake, &chat(true)).await;
    assert!(!answer.reset && answer.head.is_empty(), "{answer:?}");
    let end = fake.wait_for_end(1).await.unwrap();
    assert_eq!(end.how, EndedHow::Cut);
    assert!(end.at - fake.log()[0].arrived >= Duration::from_millis(120));
}

#[tokio::test]
async fn s07_is_late_and_then_complete() {
    let fake = wall(Scenario::S07).await;
    let answer = ask(&fake, &chat(true)).await;
    assert!(answer.done());
    let record = &fake.log()[0];
    assert!(record.first_byte.unwrap() - record.arrived >= Duration::from_millis(20));
}

#[tokio::test]
async fn s08_cuts_after_token_40_and_the_client_has_all_40() {
    let fake = wall(Scenario::S08).await;
    for answer in both(&fake, true).await {
        assert_eq!(words(&answer), 40);
        assert!(!answer.complete && !answer.done() && !answer.body.contains("\"stop\""));
    }
    assert_eq!(fake.wait_for_end(1).await.unwrap().tokens_sent, 40);
    let whole = ask(&fake, &chat(false)).await;
    assert!(whole.status == 200 && !whole.complete && !whole.body.is_empty());
}

#[tokio::test]
async fn a_cut_can_reset_end_cleanly_or_say_an_error() {
    let cut = |how| with(Fault::Cut { after_tokens: 3, how });
    let reset = ask(&cut(CutHow::Reset).await, &chat(true)).await;
    assert!(reset.reset && words(&reset) == 3, "{reset:?}");
    let clean = ask(&cut(CutHow::CleanEnd).await, &chat(true)).await;
    assert!(clean.complete && !clean.done() && words(&clean) == 3);
    for answer in both(&cut(CutHow::ErrorEvent).await, true).await {
        assert!(answer.complete && !answer.done());
        assert!(answer.events().last().unwrap()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn s09_stalls_in_the_middle_and_goes_on() {
    let fake = wall(Scenario::S09).await;
    for stream in [true, false] {
        for answer in both(&fake, stream).await {
            assert!(answer.complete);
        }
    }
    for record in fake.log() {
        assert_eq!(record.tokens_sent, 60);
        assert!(record.end.unwrap().at - record.first_byte.unwrap() >= Duration::from_millis(29));
    }
}

#[tokio::test]
async fn s10_sends_one_malformed_event_and_loses_no_token() {
    let fake = wall(Scenario::S10).await;
    for answer in both(&fake, true).await {
        assert_eq!(answer.events().iter().filter(|event| event.is_null()).count(), 1);
        assert!(answer.done() && words(&answer) == 60);
    }
    let whole = ask(&fake, &chat(false)).await;
    assert!(whole.complete && serde_json::from_str::<serde_json::Value>(&whole.body).is_err());
}

#[tokio::test]
async fn s11_finishes_without_the_last_event() {
    for answer in both(&wall(Scenario::S11).await, true).await {
        assert!(answer.complete && !answer.done());
        assert!(answer.body.contains("\"finish_reason\":\"stop\"") || answer.body.contains("end_turn"));
    }
}

#[tokio::test]
async fn s12_s13_and_prefill_are_refused_in_the_providers_words() {
    let [openai, anthropic] = both(&wall(Scenario::S12).await, true).await;
    assert_eq!(openai.json()["error"]["code"], "context_length_exceeded");
    assert!(
        anthropic.json()["error"]["message"].as_str().unwrap().starts_with("prompt is too long: 3 tokens >")
    );
    let [openai, anthropic] = both(&wall(Scenario::S13).await, true).await;
    assert_eq!((openai.status, &openai.json()["error"]["code"]), (400, &"invalid_prompt".into()));
    assert_eq!(anthropic.json()["error"]["type"], "invalid_request_error");

    let fallback = start(Script { faults: Scenario::S14.fallback(), ..Script::default() }).await;
    let mut prefilled = message(true);
    let turn = serde_json::json!({"role": "assistant", "content": "half"});
    prefilled["messages"].as_array_mut().unwrap().push(turn);
    assert_eq!(post(&fallback, "/v1/messages", &prefilled).await.status, 400);
    assert!(post(&fallback, "/v1/messages", &message(true)).await.done());
}

#[tokio::test]
async fn a_filter_in_mid_answer_has_its_own_finish_reason() {
    let fake = with(Fault::ContentFilter { after_tokens: Some(4) }).await;
    let [openai, anthropic] = both(&fake, true).await;
    assert!(openai.body.contains("\"finish_reason\":\"content_filter\"") && words(&openai) == 4);
    assert!(anthropic.body.contains("\"stop_reason\":\"refusal\"") && words(&anthropic) == 4);
}

#[tokio::test]
async fn s15_is_down_first_and_up_when_its_time_is_over() {
    let fake = wall(Scenario::S15).await;
    assert_eq!(ask(&fake, &chat(true)).await.status, 503);
    // 60 s of flapping are 60 ms here: a silence of 120 ms outlasts them.
    let silence = "x-fake-fault: {\"silence\":{\"lasting\":120000}}\r\nx-fake-scenario: null\r\n";
    send(&fake, "POST /v1/chat/completions", silence, &chat(true).to_string()).await;
    assert!(ask(&fake, &chat(true)).await.done());
}

#[tokio::test]
async fn s16_bills_what_it_sent_before_the_cut() {
    let fake = wall(Scenario::S16).await;
    let answer = ask(&fake, &chat(true)).await;
    assert!(!answer.complete);
    let usage = answer.events().last().unwrap()["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&3.into(), &20.into()));
    assert_eq!(ask(&fake, &chat(false)).await.status, 500);
}

#[tokio::test]
async fn more_than_its_places_are_refused_or_wait_and_a_place_is_free_with_the_last_byte() {
    let places = |beyond| Script {
        places: Some(Places { count: 1, beyond, retry_after: Duration::from_secs(3) }),
        first_token: Duration::from_millis(30),
        ..Script::default()
    };
    for stream in [true, false] {
        let fake = start(places(Beyond::Refuse)).await;
        let body = chat(stream);
        let (one, other) = tokio::join!(ask(&fake, &body), ask(&fake, &body));
        let (served, refused) = if one.status == 200 { (one, other) } else { (other, one) };
        assert_eq!((served.status, refused.status), (200, 429));
        assert!(refused.head.contains("retry-after: 3\r\n"), "{}", refused.head);
        assert_eq!(ask(&fake, &body).await.status, 200);

        let fake = start(places(Beyond::Wait)).await;
        let (one, other) = tokio::join!(ask(&fake, &body), ask(&fake, &body));
        assert_eq!((one.status, other.status), (200, 200));
        let mut log = fake.log();
        log.sort_by_key(|r| r.first_byte);
        assert!(log[1].first_byte >= log[0].end.map(|e| e.at), "one after the other");
    }
}
