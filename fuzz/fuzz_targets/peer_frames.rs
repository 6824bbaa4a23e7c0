//! What nodes send each other and keep in their logs, and what drivers of PostgreSQL send: understood or refused, and what
//! is understood is written as what is understood again.

#![no_main]

use bytes::Bytes;
use cluster::network::rpc::{
    AppendAnswer, OfferAnswer, Paged, ProposeAnswer, Request, VoteAnswer, decode_answer, decode_shard_answers,
    encode_shard_answers,
};
use libfuzzer_sys::fuzz_target;
use protocol::command::{Command, CommandOutcome};
use protocol::postgres::{Greeting, Message};
use protocol::sql;

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, slice) = input;
    let bytes = Bytes::copy_from_slice(slice);
    match kind % 8 {
        0 => {
            if let Ok((header, request)) = Request::decode(&bytes) {
                let again = Request::decode(&request.encode(header)).expect("what is written is read");
                assert_eq!(again, (header, request));
            }
        }
        1 => {
            let _ = decode_answer::<AppendAnswer>(&bytes);
            let _ = decode_answer::<VoteAnswer>(&bytes);
            let _ = decode_answer::<OfferAnswer>(&bytes);
        }
        2 => {
            let _ = decode_answer::<ProposeAnswer>(&bytes);
            let _ = decode_answer::<Paged>(&bytes);
        }
        3 => {
            if let Ok(answers) = decode_shard_answers(&bytes) {
                let again = decode_shard_answers(&encode_shard_answers(&answers).into());
                assert_eq!(again.expect("what is written is read"), answers);
            }
        }
        4 => {
            if let Ok(command) = Command::decode(&bytes) {
                let written = command.encode();
                assert_eq!(Command::decode(&written), Ok(command));
            }
        }
        5 => {
            if let Ok(outcome) = CommandOutcome::decode(&bytes) {
                assert_eq!(CommandOutcome::decode(&outcome.encode()), Ok(outcome));
            }
        }
        6 => drop(sql::decode_answer(bytes)),
        _ => {
            let _ = Greeting::decode(slice);
            if let Some((kind, body)) = slice.split_first() {
                let _ = Message::decode(*kind, body);
            }
        }
    }
});
