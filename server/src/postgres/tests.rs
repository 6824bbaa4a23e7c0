use super::*;

#[test]
fn only_who_knows_the_secret_stops_a_session() {
    let sessions = Sessions::default();
    let (number, slot) = sessions.add();
    let token = slot.begin();
    sessions.cancel(number, slot.secret.wrapping_add(1));
    sessions.cancel(number + 1, slot.secret);
    assert!(!token.is_cancelled());
    sessions.cancel(number, slot.secret);
    assert!(token.is_cancelled());
    assert!(!slot.begin().is_cancelled(), "the next statement runs");
    sessions.remove(number);
    assert!(sessions.slots.lock().unwrap().is_empty());
}
