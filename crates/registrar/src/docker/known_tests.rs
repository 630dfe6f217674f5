//! What is known of the containers, whatever Docker's events do.

use std::collections::BTreeMap;

use catalog::Container;
use model::labels::ContainerFacts;
use proptest::prelude::*;

use super::*;

fn id(number: u8) -> ContainerId {
    format!("{number:02x}").repeat(32).parse().unwrap()
}

/// A container as Docker lists it; `version` stands for its address, ports and name.
fn listed(number: u8, version: u64) -> ListedContainer {
    let container = Container { id: id(number), facts: ContainerFacts::default() };
    ListedContainer { container, ports: Vec::new(), health: None, image_labels: None, created_ms: version }
}

/// What somebody knows who takes in all events.
fn take_in(reader: &mut BTreeMap<ContainerId, u64>, events: Vec<DockerEvent>) -> usize {
    let count = events.len();
    for event in events {
        match event {
            DockerEvent::Listed(listed) => drop(reader.insert(listed.container.id, listed.created_ms)),
            DockerEvent::Stopped(id) => drop(reader.remove(&id)),
            other => panic!("{other:?} is not expected"),
        }
    }
    count
}

#[test]
fn a_whole_listing_without_news_says_nothing() {
    let all = [listed(1, 1), listed(2, 1)];
    let mut known = Known::new(&all);
    known.suspect_all();
    let question = known.next_question().unwrap();
    assert!(known.answered(question, all.to_vec()).is_empty());
    assert!(known.next_question().is_none());
}

#[test]
fn an_answer_that_is_older_than_the_containers_end_does_not_bring_it_back() {
    let mut known = Known::new(&[listed(1, 1)]);
    known.suspect_all();
    let all = known.next_question().unwrap();
    known.changed(id(1));
    let one = known.next_question().unwrap();
    known.ended(id(1));
    assert!(known.answered(one, vec![listed(1, 2)]).is_empty());
    assert!(known.answered(all, vec![listed(1, 1)]).is_empty());
    assert!(known.heard.is_empty(), "nothing is kept that no question needs");
}

#[test]
fn a_slow_answer_about_one_container_does_not_hold_another() {
    let mut known = Known::new(&[]);
    known.changed(id(1));
    let _slow = known.next_question().unwrap();
    known.changed(id(2));
    let question = known.next_question().unwrap();
    assert_eq!(known.answered(question, vec![listed(2, 1)]).len(), 1);
}

#[test]
fn more_events_than_anybody_can_ask_about_make_one_whole_listing_due() {
    let mut known = Known::new(&[]);
    let ids: Vec<ContainerId> = (0..=DUE_MAX).map(|number| format!("{number:064x}").parse().unwrap()).collect();
    ids.iter().cloned().for_each(|id| known.changed(id));
    assert!(matches!(known.next_question().unwrap().about, About::All));
    assert!(known.next_question().is_none());
}

/// What happens to a container, and to the conversation about it.
#[derive(Clone, Debug)]
enum Step {
    Starts(u8),
    Changes(u8),
    Ends(u8),
    /// As the others, but no event tells of it.
    Lost(Box<Self>),
    Ask,
    /// The open question with this place is looked up by Docker, and answered later.
    Looked(usize),
    Answer(usize),
    ListAll,
}

fn step() -> impl Strategy<Value = Step> {
    let happens =
        prop_oneof![(0..4u8).prop_map(Step::Starts), (0..4u8).prop_map(Step::Changes), (0..4u8).prop_map(Step::Ends)];
    prop_oneof![
        4 => happens.clone(),
        2 => happens.prop_map(|step| Step::Lost(Box::new(step))),
        4 => Just(Step::Ask),
        3 => (0..4usize).prop_map(Step::Looked),
        3 => (0..4usize).prop_map(Step::Answer),
        1 => Just(Step::ListAll),
    ]
}

/// A Docker, and somebody who learns of it through [`Known`].
#[derive(Default)]
struct World {
    docker: BTreeMap<u8, u64>,
    versions: u64,
    known: Known,
    open: Vec<(Question, Option<Vec<ListedContainer>>)>,
    reader: BTreeMap<ContainerId, u64>,
}

impl World {
    fn happen(&mut self, step: &Step, is_told: bool) {
        self.versions += 1;
        match step {
            Step::Starts(number) if !self.docker.contains_key(number) => {
                self.docker.insert(*number, self.versions);
            }
            Step::Changes(number) if self.docker.contains_key(number) => {
                self.docker.insert(*number, self.versions);
            }
            Step::Ends(number) => {
                if self.docker.remove(number).is_some() && is_told {
                    let event = self.known.ended(id(*number));
                    take_in(&mut self.reader, vec![event]);
                }
                return;
            }
            _ => return,
        }
        if let (Step::Starts(number) | Step::Changes(number), true) = (step, is_told) {
            self.known.changed(id(*number));
        }
    }

    fn look(&mut self, place: usize) {
        let all: Vec<_> = self.docker.iter().map(|(number, version)| listed(*number, *version)).collect();
        let Some((question, seen)) = self.open.get_mut(place).filter(|(_, seen)| seen.is_none()) else { return };
        let is_asked = |listed: &ListedContainer| match &question.about {
            About::All => true,
            About::Only(ids) => ids.contains(&listed.container.id),
        };
        *seen = Some(all.into_iter().filter(is_asked).collect());
    }

    fn answer(&mut self, place: usize) -> usize {
        self.look(place);
        if place >= self.open.len() {
            return 0;
        }
        let (question, seen) = self.open.remove(place);
        let events = self.known.answered(question, seen.unwrap());
        take_in(&mut self.reader, events)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Lost(step) => self.happen(step, false),
            Step::Ask => self.open.extend(self.known.next_question().map(|question| (question, None))),
            Step::Looked(place) => self.look(*place),
            Step::Answer(place) => drop(self.answer(*place)),
            Step::ListAll => self.known.suspect_all(),
            step => self.happen(step, true),
        }
    }

    fn settle(&mut self) {
        loop {
            self.step(&Step::Ask);
            if self.open.is_empty() {
                return;
            }
            self.answer(0);
        }
    }

    fn ps(&self) -> BTreeMap<ContainerId, u64> {
        self.docker.iter().map(|(number, version)| (id(*number), *version)).collect()
    }
}

proptest! {
    #[test]
    fn once_all_is_answered_what_is_known_is_what_runs(steps in prop::collection::vec(step(), 0..80)) {
        let has_lost = steps.iter().any(|step| matches!(step, Step::Lost(_)));
        let mut world = World::default();
        steps.iter().for_each(|step| world.step(step));
        world.settle();
        if !has_lost {
            prop_assert_eq!(&world.reader, &world.ps(), "events alone are enough");
        }
        world.step(&Step::ListAll);
        world.settle();
        prop_assert_eq!(&world.reader, &world.ps(), "a whole listing finds what events did not tell");
        prop_assert!(world.known.heard.is_empty() && world.known.open.is_empty());
        world.step(&Step::ListAll);
        world.step(&Step::Ask);
        prop_assert_eq!(world.answer(0), 0, "and the next one finds no news");
    }
}
