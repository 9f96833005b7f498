//! What the writer writes is what the reader reads, for shapes of every kind.

use proptest::prelude::*;

use super::super::reader::IndexReader;
use super::super::write::{BuiltGraph, WriteError};
use super::*;
use crate::test_scale::scaled;

fn assert_same(graph: &mut TestGraph, pages: &MemoryPages) {
    let reader = IndexReader::open(pages).unwrap();
    assert_eq!(reader.layout(), &graph.layout);
    assert_eq!(reader.meta().counts.nodes, graph.nodes);
    assert_eq!(reader.meta().next_block, pages.blocks(), "no block is left over");
    assert_eq!(reader.meta().entry, graph.entry().map(|entry| (entry, graph.level(entry))));
    let (mut bytes, mut expected_bytes) = (Vec::new(), Vec::new());
    let (mut tids, mut expected_tids) = (Vec::new(), Vec::new());
    let mut expected_ids = Vec::new();
    for ordinal in 0..graph.nodes {
        reader.code(ordinal, &mut bytes).unwrap();
        graph.code(ordinal, &mut expected_bytes).unwrap();
        expected_bytes.truncate(expected_bytes.len() - RowShape::of(&graph.keys).bytes());
        assert_eq!(bytes, expected_bytes, "code of {ordinal}");
        let node = reader.node(ordinal).unwrap();
        assert_eq!((node.state, node.level), (node::NodeState::Live, graph.level(ordinal)));
        for level in 0..=node.level {
            graph.neighbours(ordinal, level, &mut expected_ids).unwrap();
            let ids: Vec<u32> = reader.neighbours(ordinal, level).unwrap().iter().collect();
            assert_eq!(ids, expected_ids, "neighbours of {ordinal} at level {level}");
        }
        reader.neighbours(ordinal, node.level + 1).unwrap_err();
        reader.heap_tids(ordinal, &mut tids).unwrap();
        graph.heap_tids(ordinal, &mut expected_tids).unwrap();
        assert_eq!(tids.first(), expected_tids.first());
        tids.sort();
        expected_tids.sort();
        assert_eq!(tids, expected_tids, "heap tids of {ordinal}");
        for column in 0..graph.layout.keys().columns() {
            let key = reader.key(ordinal, column).unwrap().map(key::read);
            assert_eq!(key, graph.key(ordinal, column), "key {column} of {ordinal}");
        }
    }
    let beyond = PageError::Beyond { what: "node", index: graph.nodes, count: graph.nodes };
    assert_eq!(reader.node(graph.nodes).unwrap_err(), beyond);
}

fn code_lengths() -> impl Strategy<Value = CodeLength> {
    prop_oneof![
        (1u32..3000).prop_map(CodeLength::Fixed),
        (3000u32..=span::MAX_CODE_BYTES as u32).prop_map(CodeLength::Fixed),
        (1u32..12_000).prop_map(|max_bytes| CodeLength::Variable { max_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(scaled(60, 1)))]

    #[test]
    fn a_written_graph_reads_back_as_it_was(
        code_length in code_lengths(),
        m in 2u16..=100,
        widths in proptest::collection::vec(proptest::sample::select(keys::KEY_WIDTHS.to_vec()), 0..=31),
        nodes in 0u32..scaled(120, 12),
        seed: u64,
    ) {
        let (mut graph, pages) = written(identity(code_length, m, &widths), nodes, seed);
        assert_same(&mut graph, &pages);
    }
}

#[test]
fn a_graph_of_many_pages_of_each_class_reads_back_as_it_was() {
    let (mut graph, pages) =
        written(identity(CodeLength::Fixed(scaled(392, 8)), 16, &[4, 8, 1]), scaled(3000, 2000), 7);
    let reader = IndexReader::open(&pages).unwrap();
    for &class in PageClass::ALL {
        assert!(reader.meta().class(class).base_pages > 1, "{class:?}");
    }
    assert_same(&mut graph, &pages);
}

#[test]
fn an_empty_graph_is_one_metapage() {
    let (_, pages) = written(identity(CodeLength::Fixed(392), 16, &[]), 0, 1);
    assert_eq!(pages.blocks(), 1);
}

struct Wrong<'g> {
    graph: &'g mut TestGraph,
    fault: &'static str,
}

impl BuiltGraph for Wrong<'_> {
    type Error = &'static str;

    fn nodes(&self) -> u32 {
        self.graph.nodes()
    }
    fn entry(&self) -> Option<u32> {
        if self.fault == "entry" {
            Some(self.graph.nodes)
        } else {
            self.graph.entry()
        }
    }
    fn level(&self, ordinal: u32) -> u8 {
        if self.fault == "level" && ordinal == 5 {
            MAX_LEVEL + 1
        } else {
            self.graph.level(ordinal)
        }
    }
    fn neighbours(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<(), &'static str> {
        self.graph.neighbours(ordinal, level, into)?;
        match self.fault {
            "neighbour" => *into = vec![self.graph.nodes],
            "neighbours" => *into = vec![0; 2 * usize::from(self.graph.layout.m()) + 1],
            _ => {}
        }
        Ok(())
    }
    fn code(&mut self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), &'static str> {
        self.graph.code(ordinal, into)?;
        if self.fault == "code" {
            into.push(0);
        }
        Ok(())
    }
    fn heap_tids(&mut self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), &'static str> {
        self.graph.heap_tids(ordinal, into)?;
        if self.fault == "tids" {
            into.clear();
        }
        Ok(())
    }
}

#[test]
fn a_graph_that_does_not_fit_is_refused() {
    let identity = identity(CodeLength::Fixed(20), 4, &[4]);
    let mut graph =
        TestGraph { nodes: 30, layout: identity.layout().unwrap(), seed: 3, keys: identity.filter_columns.clone() };
    let mut write = |fault| {
        let meta = Meta::empty(identity.clone()).unwrap();
        write_graph(meta, &mut Wrong { graph: &mut graph, fault }, |_, _| Ok(()))
    };
    write("none").unwrap();
    for fault in ["entry", "level", "neighbour", "neighbours", "code", "tids"] {
        assert!(matches!(write(fault), Err(WriteError::Page(_))), "{fault}");
    }
}

#[test]
fn an_error_of_the_sink_ends_the_writing() {
    let identity = identity(CodeLength::Fixed(20), 4, &[]);
    let mut graph =
        TestGraph { nodes: 30, layout: identity.layout().unwrap(), seed: 3, keys: identity.filter_columns.clone() };
    let full = |block, _: &Page| if block == 2 { Err("disk full") } else { Ok(()) };
    assert_eq!(
        write_graph(Meta::empty(identity).unwrap(), &mut graph, full).unwrap_err(),
        WriteError::Storage("disk full")
    );
}
