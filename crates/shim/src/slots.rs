//! A table whose entries keep their key, and whose keys are never used twice.

/// Names an entry: its slot in the lower 32 bits, its generation above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64);

impl Key {
    /// How many bits of a number a key takes.
    pub(crate) const BITS: u32 = 60;

    /// The key as a number below 2 to the power of [`Self::BITS`].
    #[must_use]
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// The key of [`Self::to_bits`].
    #[must_use]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// The table. Takes no memory while it is empty.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Option<(Key, T)>>,
    free: Vec<u32>,
    /// Of the next entry; wraps within what a key holds. An event that is older than 2^28 entries is not thinkable.
    generation: u32,
}

impl<T> Slots<T> {
    /// An empty table.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), generation: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Puts an entry in; it is made knowing its own key.
    pub(crate) fn insert(&mut self, entry: T) -> Key {
        self.generation = (self.generation + 1) & ((1 << (Key::BITS - 32)) - 1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        let key = Key::new(slot, self.generation);
        self.entries[key.slot()] = Some((key, entry));
        key
    }

    /// The entry of that key, unless it was taken out.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (found, entry) = self.entries.get_mut(key.slot())?.as_mut()?;
        (*found == key).then_some(entry)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let (_, entry) = self.entries[key.slot()].take()?;
        self.free.push(key.slot() as u32);
        if self.len() == 0 {
            self.entries = Vec::new();
            self.free = Vec::new();
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_own_entry_only() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        let second = slots.insert('b');
        assert_eq!(slots.remove(first), Some('a'));
        let third = slots.insert('c');
        assert_eq!(third.slot(), first.slot(), "the slot is used again");
        assert_eq!(slots.get_mut(first), None, "the key is not");
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 2);
        assert_eq!(slots.get_mut(second), Some(&mut 'b'));
        assert_eq!(slots.get_mut(third), Some(&mut 'c'));
    }

    #[test]
    fn an_empty_table_takes_no_memory() {
        let mut slots = Slots::new();
        let keys: Vec<Key> = (0..1000).map(|i| slots.insert(i)).collect();
        for key in keys {
            slots.remove(key);
        }
        assert_eq!((slots.len(), slots.entries.capacity(), slots.free.capacity()), (0, 0, 0));
        let key = slots.insert(1);
        assert_eq!(slots.get_mut(key), Some(&mut 1));
    }

    #[test]
    fn keys_fit_their_bits() {
        let mut slots = Slots::new();
        slots.generation = (1 << 28) - 1;
        let key = slots.insert(());
        assert!(key.to_bits() < 1 << Key::BITS);
        assert_eq!(slots.get_mut(Key::from_bits(key.to_bits())), Some(&mut ()));
    }
}
