//! Whose turn it is: no threads and no clock, only tickets.
//!
//! Every query has a virtual time, which moves on by the CPU time that its parts use. The query that is furthest behind
//! has the best claim to a place; within a query, parts that have begun come before those that have not, then the order of
//! arrival decides.
//!
//! * A query that comes begins [`CREDIT`] behind the others: what needs less than that passes everything that needs more,
//!   and a small query beside a huge one takes as long as it would alone. Above it, queries share equally.
//! * Credit alone would let a stream of small queries keep a large one out for ever. So who has waited for [`PATIENCE`]
//!   comes first, whatever its virtual time, and keeps the place for [`GRANT`] at least.
//! * The clock of virtual time, from which newcomers' credit counts, is the greatest time at which a part was given a
//!   place. It never goes back, so that no query gains by coming and going.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a part keeps its place before it looks whether others have a better claim.
pub(super) const SLICE: Duration = Duration::from_millis(1);

/// CPU time by which a query that comes is put before the others.
const CREDIT: Duration = Duration::from_millis(100);

/// Wait after which a part comes first.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long who came first by patience keeps its place at least.
const GRANT: Duration = Duration::from_millis(10);

/// A part that waits for a place. In the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

#[derive(Debug, Default)]
struct Query {
    /// Virtual time.
    used: Duration,
    /// Parts that let others pass, with the time since when they wait.
    paused: VecDeque<(Ticket, Duration)>,
    /// Parts that have not begun.
    fresh: VecDeque<(Ticket, Duration)>,
    /// Parts that have a place.
    running: usize,
    /// Nobody else has a better claim until then.
    until: Duration,
}

impl Query {
    /// The part that is to have the next place, and since when it waits. No more parts begin than there are places.
    fn next(&self, places: usize) -> Option<(Ticket, Duration)> {
        let may_begin = self.running + self.paused.len() < places;
        self.paused.front().or_else(|| self.fresh.front().filter(|_| may_begin)).copied()
    }

    fn is_gone(&self) -> bool {
        self.running == 0 && self.paused.is_empty() && self.fresh.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    places: usize,
    running: usize,
    queries: BTreeMap<u64, Query>,
    clock: Duration,
    next_ticket: u64,
    passes: u64,
}

impl Schedule {
    pub fn new(places: usize) -> Self {
        // The clock begins with room for the first credit.
        Self { places, running: 0, queries: BTreeMap::new(), clock: CREDIT, next_ticket: 0, passes: 0 }
    }

    pub fn places(&self) -> usize {
        self.places
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn passes(&self) -> u64 {
        self.passes
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A part that has not begun waits from now on.
    pub fn arrive(&mut self, query: u64, now: Duration) -> Ticket {
        let ticket = self.ticket();
        let start = self.clock.saturating_sub(CREDIT);
        let query = self.queries.entry(query).or_insert_with(|| Query { used: start, ..Query::default() });
        query.fresh.push_back((ticket, now));
        ticket
    }

    /// The best claim of those who wait: the ticket, its query, and whether it is by patience.
    fn best(&self, now: Duration) -> Option<(Ticket, u64, bool)> {
        let heads = || {
            self.queries.iter().filter_map(|(id, query)| {
                let (ticket, since) = query.next(self.places)?;
                Some((*id, query.used, ticket, since))
            })
        };
        let patient = heads().filter(|(.., since)| now.saturating_sub(*since) >= PATIENCE);
        if let Some((id, _, ticket, _)) = patient.min_by_key(|(_, _, ticket, since)| (*since, *ticket)) {
            return Some((ticket, id, true));
        }
        heads()
            .min_by_key(|(_, used, ticket, _)| (*used, *ticket))
            .map(|(id, _, ticket, _)| (ticket, id, false))
    }

    /// Gives a free place away.
    pub fn next(&mut self, now: Duration) -> Option<Ticket> {
        if self.running >= self.places {
            return None;
        }
        let (ticket, id, by_patience) = self.best(now)?;
        let query = self.queries.get_mut(&id)?;
        for waiting in [&mut query.paused, &mut query.fresh] {
            if waiting.front().is_some_and(|(first, _)| *first == ticket) {
                waiting.pop_front();
                break;
            }
        }
        query.running += 1;
        query.until = if by_patience { now + GRANT } else { Duration::ZERO };
        self.clock = self.clock.max(query.used);
        self.running += 1;
        Some(ticket)
    }

    /// Counts what a part of a query has used, and says whether it has to let another pass.
    pub fn must_pass(&mut self, id: u64, used: Duration, now: Duration) -> bool {
        let Some(query) = self.queries.get_mut(&id) else { return false };
        query.used += used;
        let (own, until) = (query.used, query.until);
        match self.best(now) {
            Some((_, other, by_patience)) if other != id && now >= until => {
                by_patience || self.queries.get(&other).is_some_and(|other| other.used <= own)
            }
            _ => false,
        }
    }

    /// A part gives its place back and waits for the next.
    pub fn pass(&mut self, id: u64, now: Duration) -> Ticket {
        let ticket = self.ticket();
        let query = self.queries.entry(id).or_default();
        query.running = query.running.saturating_sub(1);
        query.paused.push_back((ticket, now));
        self.running = self.running.saturating_sub(1);
        self.passes += 1;
        ticket
    }

    /// A part that waits in the middle goes on without a place, to end.
    pub fn leave(&mut self, id: u64, ticket: Ticket) {
        if let Some(query) = self.queries.get_mut(&id) {
            query.paused.retain(|(waiting, _)| *waiting != ticket);
            // It is counted as running until its end, which gives the place back.
            query.running += 1;
            self.running += 1;
        }
    }

    /// A part has ended.
    pub fn end(&mut self, id: u64, used: Duration) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.used += used;
        query.running = query.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        if query.is_gone() {
            self.queries.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: u64 = 1;

    /// Plays parts that need given CPU times on a schedule, one slice after the other on each place, in virtual time.
    struct Play {
        schedule: Schedule,
        now: Duration,
        left: BTreeMap<Ticket, (u64, Duration)>,
        running: Vec<(u64, Duration)>,
        /// When each query ended.
        ends: BTreeMap<u64, Duration>,
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    impl Play {
        fn new(places: usize) -> Self {
            Self {
                schedule: Schedule::new(places),
                now: Duration::ZERO,
                left: BTreeMap::new(),
                running: Vec::new(),
                ends: BTreeMap::new(),
            }
        }

        fn arrive(&mut self, query: u64, parts: usize, each: Duration) {
            for _ in 0..parts {
                let ticket = self.schedule.arrive(query, self.now);
                self.left.insert(ticket, (query, each));
            }
        }

        fn grant(&mut self) {
            while let Some(ticket) = self.schedule.next(self.now) {
                self.running.push(self.left.remove(&ticket).expect("a ticket that waits"));
            }
        }

        /// A slice on every place.
        fn slice(&mut self) {
            self.grant();
            assert!(self.running.len() <= self.schedule.places());
            assert_eq!(self.running.len(), self.schedule.running());
            self.now += SLICE;
            for (query, left) in std::mem::take(&mut self.running) {
                let left = left.saturating_sub(SLICE);
                if left.is_zero() {
                    self.schedule.end(query, SLICE);
                    if !self.running.iter().any(|(other, _)| *other == query)
                        && !self.left.values().any(|(other, _)| *other == query)
                    {
                        self.ends.insert(query, self.now);
                    }
                } else if self.schedule.must_pass(query, SLICE, self.now) {
                    let ticket = self.schedule.pass(query, self.now);
                    self.left.insert(ticket, (query, left));
                    self.grant();
                } else {
                    self.running.push((query, left));
                }
            }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.slice();
            }
        }
    }

    #[test]
    fn a_small_query_beside_a_huge_one_takes_as_long_as_alone() {
        for places in [1, 2, 8] {
            let mut play = Play::new(places);
            play.arrive(HUGE, 16, ms(100_000));
            play.run(ms(1000));
            let came = play.now;
            play.arrive(2, 8, ms(5));
            play.run(ms(200));
            let alone = ms(5) * 8_u32.div_ceil(places as u32);
            let took = play.ends[&2] - came;
            assert!(took <= alone + SLICE * 3, "{places} places: {took:?} where it takes {alone:?} alone");
        }
    }

    #[test]
    fn queries_that_need_much_share_equally() {
        let mut play = Play::new(2);
        for query in 0..4 {
            play.arrive(query, 4, ms(1000));
            play.run(ms(37));
        }
        play.run(ms(20_000));
        let ends: Vec<Duration> = play.ends.values().copied().collect();
        assert_eq!(ends.len(), 4);
        // 16 s of work on two places take 8 s; nobody is done long before the others.
        assert!(ends.iter().all(|end| (ms(7000)..=ms(8100)).contains(end)), "{ends:?}");
    }

    #[test]
    fn a_stream_of_small_queries_keeps_nobody_out() {
        let mut play = Play::new(1);
        play.arrive(HUGE, 1, ms(400));
        let mut next = HUGE + 1;
        while play.now < ms(12_000) && !play.ends.contains_key(&HUGE) {
            // Twenty at a time, more than the place can do, all within their credit.
            while play.schedule.queries.len() < 21 {
                play.arrive(next, 1, ms(3));
                next += 1;
            }
            play.slice();
        }
        assert!(play.ends.contains_key(&HUGE), "{next} others came first");
    }

    #[test]
    fn no_query_begins_more_parts_than_there_are_places() {
        let mut play = Play::new(2);
        play.arrive(HUGE, 100, ms(50));
        for query in 2..40 {
            play.arrive(query, 3, ms(2));
            play.run(ms(5));
            let query = play.schedule.queries.get(&HUGE).expect("it runs");
            assert!(query.running + query.paused.len() <= 2);
        }
    }

    #[test]
    fn who_leaves_gives_its_place_back_at_its_end() {
        let mut schedule = Schedule::new(1);
        let first = schedule.arrive(1, Duration::ZERO);
        assert_eq!(schedule.next(Duration::ZERO), Some(first));
        let second = schedule.arrive(2, Duration::ZERO);
        assert!(schedule.must_pass(1, SLICE, SLICE));
        let paused = schedule.pass(1, SLICE);
        assert_eq!(schedule.next(SLICE), Some(second));
        assert_eq!(schedule.next(SLICE), None);
        schedule.leave(1, paused);
        let third = schedule.arrive(3, SLICE);
        schedule.end(1, SLICE);
        assert_eq!(schedule.next(SLICE), None, "the second still has the place");
        schedule.end(2, SLICE);
        assert_eq!(schedule.next(SLICE), Some(third));
        schedule.end(3, SLICE);
        assert!(schedule.queries.is_empty());
    }
}
