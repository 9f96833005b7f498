//! The access method in a running server, as far as it needs no index: settings, storage parameters, operator classes,
//! values.

use super::value::{exact_distance, Stored};
use pg_rag_engine::hnsw::page::{ElementType, Metric};
use pgrx::prelude::*;
use pgrx::AnyElement;

/// The distance of two values as a scan computes it, by the numbers of the page format.
#[pg_extern(requires = ["types"])]
fn test_hnsw_distance(a: AnyElement, b: AnyElement, element: i32, metric: i32) -> crate::error::Result<f64> {
    let (element, metric) = terms(element, metric);
    // SAFETY: the tests name the type of what they pass.
    let (a, b) = unsafe { (Stored::read(element, a.datum()), Stored::read(element, b.datum())) };
    exact_distance(metric, &a.expect("a value").value(), &b.expect("a value").value())
}

/// Checks a value against an index of some dimensions, as a row and as a query; whether it has a direction.
#[pg_extern(requires = ["types"])]
fn test_hnsw_check(value: AnyElement, element: i32, row: i32, query: i32) -> crate::error::Result<bool> {
    let (element, _) = terms(element, 1);
    // SAFETY: as above.
    let stored = unsafe { Stored::read(element, value.datum()) }.expect("a value");
    stored.value().check_row(row.unsigned_abs())?;
    stored.value().check_query(query.unsigned_abs())?;
    Ok(!stored.value().is_zero_norm())
}

fn terms(element: i32, metric: i32) -> (ElementType, Metric) {
    (ElementType::ALL[element as usize - 1], Metric::ALL[metric as usize - 1])
}

#[pg_schema]
#[allow(clippy::module_inception, reason = "pgrx looks for tests in the schema of this name")]
mod tests {
    use crate::hnsw::options::Options;
    use crate::hnsw::settings::{self, IterativeScan};
    use pgrx::prelude::*;

    /// Every default class, and every class of vectors, is for a type that the hint names.
    #[pg_test]
    fn hint_about_operator_classes_names_every_type() {
        let hint = crate::hnsw::opclass_hint::HINT.to_str().expect("ASCII");
        let types = text(
            "SELECT string_agg(DISTINCT CASE opcintype WHEN 'anyenum'::regtype THEN 'enums' WHEN 'anyarray'::regtype THEN 'arrays' \
                                             ELSE format_type(opcintype, NULL) END, ';') \
               FROM pg_opclass JOIN pg_am am ON am.oid = opcmethod WHERE amname = 'hnsw'",
        );
        assert!(types.split(';').count() > 20, "{types}");
        for name in types.split(';') {
            assert!(hint.contains(name), "{name} is missing in the hint");
        }
    }

    fn text(query: &str) -> String {
        Spi::get_one(query).expect("query runs").expect("one value")
    }

    fn is_true(query: &str) -> bool {
        Spi::get_one(query).expect("query runs").expect("one value")
    }

    /// SQLSTATE and message of the error that a statement raises.
    fn failure(statement: &str) -> String {
        Spi::run(
            "CREATE OR REPLACE FUNCTION pg_temp.hnsw_failure(statement text) RETURNS text LANGUAGE plpgsql AS $f$
             BEGIN EXECUTE statement; RETURN 'no error';
             EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
             END $f$",
        )
        .expect("function is created");
        text(&format!("SELECT pg_temp.hnsw_failure($s${statement}$s$)"))
    }

    #[pg_test]
    fn hnsw_settings_have_their_defaults_and_ranges() {
        assert_eq!(settings::ef_search(), 40);
        assert_eq!(settings::iterative_scan(), IterativeScan::StrictOrder);
        assert_eq!(settings::max_scan_tuples(), None);
        assert_eq!(settings::target_recall(), None);
        assert_eq!(text("SHOW hnsw.max_scan_tuples"), "2147483647");

        for (setting, value) in [
            ("ef_search", "0"),
            ("ef_search", "1001"),
            ("max_scan_tuples", "0"),
            ("scan_mem_multiplier", "0.9"),
            ("scan_mem_multiplier", "1000.5"),
            ("target_recall", "-0.1"),
            ("target_recall", "1.1"),
            ("iterative_scan", "on"),
            ("no_such_setting", "1"),
        ] {
            let message = failure(&format!("SET hnsw.{setting} = {value}"));
            let code = if setting == "no_such_setting" { "42602" } else { "22023" };
            assert!(message.starts_with(code), "{setting} = {value}: {message}");
        }
    }

    #[pg_test]
    fn hnsw_settings_are_read() {
        Spi::run(
            "SET LOCAL hnsw.ef_search = 1000; SET LOCAL hnsw.iterative_scan = relaxed_order;
             SET LOCAL hnsw.max_scan_tuples = 2147483646; SET LOCAL hnsw.scan_mem_multiplier = 2.5;
             SET LOCAL work_mem = '1MB'; SET LOCAL hnsw.target_recall = 0.95",
        )
        .expect("settings are set");
        assert_eq!(settings::ef_search(), 1000);
        assert_eq!(settings::iterative_scan(), IterativeScan::RelaxedOrder);
        assert_eq!(settings::max_scan_tuples(), Some(2_147_483_646));
        assert_eq!(settings::target_recall(), Some(0.95));
        Spi::run("SET LOCAL hnsw.iterative_scan = off").expect("setting is set");
        assert_eq!(settings::iterative_scan(), IterativeScan::Off);
    }

    #[pg_test]
    fn hnsw_storage_parameters_are_checked() {
        Spi::run("CREATE TEMPORARY TABLE options (v vector(3))").expect("table is created");
        let create =
            |with: &str| failure(&format!("CREATE INDEX ON options USING hnsw (v vector_l2_ops) WITH ({with})"));
        assert_eq!(create("m = 1"), "22023 value 1 out of bounds for option \"m\"");
        assert_eq!(create("m = 101"), "22023 value 101 out of bounds for option \"m\"");
        assert_eq!(create("ef_construction = 3"), "22023 value 3 out of bounds for option \"ef_construction\"");
        assert_eq!(create("ef_construction = 1001"), "22023 value 1001 out of bounds for option \"ef_construction\"");
        assert_eq!(create("fillfactor = 90"), "22023 unrecognized parameter \"fillfactor\"");

        assert!(Options { m: 16, ef_construction: 32 }.check().is_ok());
        assert!(Options { m: 16, ef_construction: 31 }.check().is_err());
        assert!(Options::default().check().is_ok());
    }

    #[pg_test]
    fn hnsw_operator_classes_are_valid() {
        // Those for vectors are never the default, those for filter columns always.
        let valid = "SELECT count(*) FILTER (WHERE c.opcdefault) = 21 AND count(*) = 35 AND bool_and(amvalidate(c.oid))
                       FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod WHERE m.amname = 'hnsw'";
        assert!(is_true(valid));
    }

    #[pg_test]
    fn hnsw_operator_classes_with_faults_are_not_valid() {
        let valid = |name: &str, items: &str| {
            Spi::run(&format!("CREATE OPERATOR CLASS {name} FOR TYPE vector USING hnsw AS {items}"))
                .expect("class is created");
            is_true(&format!("SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = '{name}'"))
        };
        let operator = "OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops";
        let distance = "FUNCTION 1 l2_distance(vector, vector)";
        let terms = "FUNCTION 2 hnsw_vector_l2_support(internal)";
        assert!(valid("whole", &format!("{operator}, {distance}, {terms}")));
        assert!(!valid("no_operator", &format!("{distance}, {terms}")));
        assert!(!valid("no_distance", &format!("{operator}, {terms}")));
        assert!(!valid("no_terms", &format!("{operator}, {distance}")));
        assert!(!valid("condition", &format!("OPERATOR 1 = (vector, vector), {distance}, {terms}")));
        assert!(!valid("strategy_2", &format!("OPERATOR 2 <-> FOR ORDER BY float_ops, {distance}, {terms}")));
        assert!(!valid("result", &format!("{operator}, FUNCTION 1 vector_cmp(vector, vector), {terms}")));
        assert!(!valid("arguments", &format!("{operator}, {distance}, FUNCTION 2 vector_dims(vector)")));
    }

    #[pg_test]
    fn hnsw_distances_are_those_of_the_operators() {
        let samples = [
            ("vector", 1, "'[1,2.5,-3]'", "'[0.1,7,1e-3]'"),
            ("halfvec", 2, "'[1,2.5,-3]'", "'[0.1,7,1e-3]'"),
            ("sparsevec", 3, "'{1:1,2:2.5,9:-3}/10'", "'{2:7,5:0.1,9:1e-3}/10'"),
        ];
        for (name, element, a, b) in samples {
            for (metric, operator) in [(1, "<->"), (2, "<#>"), (3, "<=>"), (4, "<+>")] {
                let query = format!(
                    "SELECT test_hnsw_distance({a}::{name}, {b}::{name}, {element}, {metric}) = {a}::{name} {operator} {b}"
                );
                assert!(is_true(&query), "{query}");
            }
        }
        for (metric, operator) in [(5, "<~>"), (6, "<%>")] {
            let query = format!("SELECT test_hnsw_distance(B'110010111', B'010011101', 4, {metric}) = B'110010111' {operator} B'010011101'");
            assert!(is_true(&query), "{query}");
        }
        assert!(is_true("SELECT test_hnsw_distance('[1,2]'::vector, '[0,0]', 1, 3) = 'NaN'"));
        assert!(is_true(
            "SELECT test_hnsw_distance(array_fill(1, ARRAY[9000])::vector, array_fill(2, ARRAY[9000])::vector, 1, 4) = 9000"
        ));
        let wrong = failure("SELECT test_hnsw_distance('[1]'::vector, '[2]', 1, 5)");
        assert_eq!(wrong, "XX000 Hamming is no distance of vector dimensions");
    }

    #[pg_test]
    fn hnsw_values_are_checked() {
        let check = |value: &str, element: i32, row: i32, query: i32| {
            failure(&format!("SELECT test_hnsw_check({value}, {element}, {row}, {query})"))
        };
        assert_eq!(check("'[1,2]'::vector", 1, 2, 2), "no error");
        assert_eq!(check("'[1,2]'::vector", 1, 3, 2), "22000 expected 3 dimensions, not 2");
        assert_eq!(check("'[1,2]'::vector", 1, 2, 3), "22000 different vector dimensions 2 and 3");
        assert_eq!(check("'[1,2]'::halfvec", 2, 2, 3), "22000 different halfvec dimensions 2 and 3");
        assert_eq!(check("'{1:1}/2'::sparsevec", 3, 2, 3), "22000 different sparsevec dimensions 2 and 3");
        assert_eq!(check("B'10'", 4, 2, 3), "22000 different bit lengths 2 and 3");
        assert_eq!(check("B'10'", 4, 3, 2), "22026 bit string length 2 does not match type bit(3)");

        for (value, element) in
            [("'[0,1e-40]'::vector", 1), ("'[0,6e-8]'::halfvec", 2), ("'{2:1e-40}/2'::sparsevec", 3)]
        {
            assert!(is_true(&format!("SELECT test_hnsw_check({value}, {element}, 2, 2)")), "{value}");
        }
        for (value, element) in [("'[0,-0]'::vector", 1), ("'[0,0]'::halfvec", 2), ("'{}/2'::sparsevec", 3)] {
            assert!(!is_true(&format!("SELECT test_hnsw_check({value}, {element}, 2, 2)")), "{value}");
        }
        assert!(is_true("SELECT test_hnsw_check(B'00', 4, 2, 2)"));
    }

    #[pg_test]
    fn hnsw_properties_are_what_the_handler_says() {
        let property = |name: &str| {
            text(&format!(
                "SELECT coalesce(pg_indexam_has_property(oid, '{name}')::text, '?') FROM pg_am WHERE amname = 'hnsw'"
            ))
        };
        for name in ["can_order", "can_unique", "can_multi_col", "can_exclude", "can_include"] {
            let expected = if matches!(name, "can_exclude" | "can_multi_col") { "true" } else { "false" };
            assert_eq!(property(name), expected, "{name}");
        }
    }
}
