//! The type in a running server: formats, casts, storage forms and every error with its SQLSTATE.

#![allow(unsafe_code)]

use super::dense::DenseRef;
use super::Vector;
use pgrx::prelude::*;

/// Vectors given and taken by Rust functions, as the rest of the crate does it.
#[pg_extern(requires = ["types"])]
fn test_vector_reverse(v: DenseRef<'_, f32>) -> Result<Vector, pgrx::pg_sys::panic::ErrorReport> {
    Vector::new(v.iter().rev().copied().collect())
}

#[pg_extern(requires = ["types"])]
fn test_vector_or_null(v: Option<Vector>) -> Option<Vector> {
    v.filter(|v| v.len() > 1)
}

#[pg_extern(requires = ["types"])]
fn test_vector_array(vectors: Vec<Vector>) -> Vec<Option<Vector>> {
    vectors.into_iter().map(Some).chain([None]).collect()
}

#[pg_schema]
#[allow(clippy::module_inception, reason = "pgrx looks for tests in the schema of this name")]
mod tests {
    use crate::types::dense::DenseRef;
    use crate::types::Vector;
    use pgrx::prelude::*;

    fn text(query: &str) -> String {
        Spi::get_one(query).expect("query runs").expect("one value")
    }

    fn is_true(query: &str) -> bool {
        Spi::get_one(query).expect("query runs").expect("one value")
    }

    /// SQLSTATE, message and detail of the error that a query raises.
    fn failure(query: &str) -> (String, String, Option<String>) {
        let function = format!(
            "CREATE OR REPLACE FUNCTION pg_temp.failure() RETURNS text[] LANGUAGE plpgsql AS $f$
             DECLARE message text; detail text;
             BEGIN {query}; RETURN NULL;
             EXCEPTION WHEN OTHERS THEN
                 GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
                 RETURN ARRAY[SQLSTATE, message, nullif(detail, '')];
             END $f$"
        );
        Spi::run(&function).expect("function is created");
        let raised: Vec<Option<String>> =
            Spi::get_one("SELECT pg_temp.failure()").expect("function runs").expect("the query fails");
        let [code, message, detail] = raised.try_into().expect("three fields");
        (code.expect("a code"), message.expect("a message"), detail)
    }

    fn assert_fails(query: &str, code: &str, message: &str) {
        let (found_code, found_message, _) = failure(query);
        assert_eq!((found_code.as_str(), found_message.as_str()), (code, message), "{query}");
    }

    #[pg_test]
    fn text_round_trip_keeps_every_bit() {
        // The smallest and largest numbers, a subnormal, a negative zero, and one that needs nine digits.
        for value in ["1.17549435e-38", "3.40282347e+38", "1.4e-45", "-0", "0.100000001", "16777217"] {
            let query = format!(
                "SELECT encode(vector_send(v), 'hex') = encode(vector_send(v::text::vector), 'hex')
                   FROM (SELECT '[{value}]'::vector AS v) t"
            );
            assert!(is_true(&query), "{value}");
        }
    }

    #[pg_test]
    fn binary_format_is_that_of_pgvector() {
        assert_eq!(text("SELECT encode(vector_send('[1,-2]'), 'hex')"), "000200003f800000c0000000");
    }

    #[pg_test]
    fn binary_copy_round_trip_keeps_vectors() {
        Spi::run(
            "CREATE TABLE source (id int, v vector(3)); CREATE TABLE target (LIKE source);
             INSERT INTO source VALUES (1, '[1,2,3]'), (2, NULL), (3, '[-0.1,1e-40,7]')",
        )
        .expect("tables are made");
        let file = format!("{}/vector_copy_{}", text("SHOW data_directory"), std::process::id());
        Spi::run(&format!("COPY source TO '{file}' (FORMAT binary); COPY target FROM '{file}' (FORMAT binary)"))
            .expect("copies");
        std::fs::remove_file(&file).expect("the file is there");
        assert!(is_true(
            "SELECT count(*) = 3 FROM source s JOIN target t ON s.id = t.id AND s.v::text IS NOT DISTINCT FROM t.v::text"
        ));
    }

    #[pg_test]
    fn damaged_binary_input_is_refused() {
        let file = format!("{}/vector_damaged_{}", text("SHOW data_directory"), std::process::id());
        Spi::run("CREATE TABLE target (v vector)").expect("table is made");
        // A COPY file of one row with one field of the given bytes.
        let read = |field: &[u8]| {
            let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
            bytes.extend((field.len() as i32).to_be_bytes());
            bytes.extend(field);
            bytes.extend([0xff, 0xff]);
            std::fs::write(&file, bytes).expect("file is written");
            failure(&format!("COPY target FROM '{file}' (FORMAT binary)"))
        };
        let one = 1.0f32.to_be_bytes();
        let field = |prefix: [u8; 4], values: &[u8]| [&prefix[..], values].concat();
        assert_eq!(read(&[0]).0, "08P01");
        assert_eq!(read(&field([0, 2, 0, 0], &one)).0, "08P01");
        assert_eq!(read(&field([0, 1, 0, 0], &[one, one].concat())).0, "22P03");
        assert_eq!(read(&field([0, 1, 0, 7], &one)).1, "expected unused to be 0, not 7");
        assert_eq!(read(&field([0, 0, 0, 0], &[])).1, "vector must have at least 1 dimension");
        assert_eq!(read(&field([0x3e, 0x81, 0, 0], &[])).1, "vector cannot have more than 16000 dimensions");
        assert_eq!(read(&field([0xff, 0xff, 0, 0], &[])).1, "vector must have at least 1 dimension");
        assert_eq!(read(&field([0, 1, 0, 0], &f32::NAN.to_be_bytes())).1, "NaN not allowed in vector");
        assert_eq!(read(&field([0, 1, 0, 0], &f32::INFINITY.to_be_bytes())).1, "infinite value not allowed in vector");
        std::fs::remove_file(&file).expect("the file is there");
    }

    #[pg_test]
    fn every_stored_form_reads_the_same() {
        // 1 to 30 dimensions get a 1-byte header; from about 500 on a row is stored out of line; with storage `main`
        // it is compressed.
        Spi::run(
            "CREATE TABLE forms (v vector); ALTER TABLE forms ALTER v SET STORAGE external;
             INSERT INTO forms SELECT array_agg(n ORDER BY n)::real[]
               FROM unnest(ARRAY[1, 2, 29, 30, 31, 384, 600, 16000]) d, generate_series(1, d) n GROUP BY d;
             ALTER TABLE forms ALTER v SET STORAGE main;
             INSERT INTO forms SELECT array_fill(1::real, ARRAY[d])::vector FROM unnest(ARRAY[700, 16000]) d",
        )
        .expect("table is filled");
        assert!(is_true(
            "SELECT bool_and(v = v::text::vector AND v <-> v::text::vector = 0 AND vector_dims(v) = cardinality(v::real[]))
               FROM forms"
        ));
    }

    #[pg_test]
    fn rust_functions_take_and_return_vectors() {
        assert_eq!(text("SELECT test_vector_reverse('[1,2,3]')::text"), "[3,2,1]");
        assert!(is_true("SELECT test_vector_or_null(NULL) IS NULL AND test_vector_or_null('[1]') IS NULL"));
        assert_eq!(text("SELECT test_vector_or_null('[1,2]')::text"), "[1,2]");
        assert_eq!(text("SELECT test_vector_array(ARRAY['[1,2]'::vector, '[3]'])::text"), "{\"[1,2]\",[3],NULL}");
        assert_eq!(text("SELECT pg_typeof(test_vector_array('{}'))::text"), "vector[]");
    }

    #[pg_test]
    fn spi_passes_vectors_as_parameters_and_results() {
        let given = Vector::new(vec![1.0, 2.5]).expect("valid");
        let found =
            Spi::get_one_with_args::<Vector>("SELECT l2_normalize($1) FROM (SELECT) t", &[given.clone().into()])
                .expect("query runs")
                .expect("one value");
        assert!((found[0] - 0.371_390_7).abs() < 1e-6 && (found[1] - 0.928_476_7).abs() < 1e-6, "{found:?}");
        // SAFETY: the datum was made from a vector just now.
        let borrowed: Option<DenseRef<'_, f32>> =
            unsafe { pgrx::FromDatum::from_datum(pgrx::IntoDatum::into_datum(given.clone()).expect("a datum"), false) };
        assert_eq!(&*borrowed.expect("not null"), &*given);
    }

    #[pg_test]
    fn type_is_found_in_the_schema_of_the_extension_only() {
        Spi::run("CREATE SCHEMA other; CREATE DOMAIN other.vector AS text; SET LOCAL search_path = other, public")
            .expect("schema is made");
        let oid = <Vector as pgrx::IntoDatum>::type_oid();
        let found: Option<pg_sys::Oid> = Spi::get_one(
            "SELECT t.oid FROM pg_extension e JOIN pg_type t ON t.typnamespace = e.extnamespace AND t.typname = 'vector'
              WHERE e.extname = (SELECT extname FROM pg_extension JOIN pg_depend d ON d.refobjid = pg_extension.oid
                                  WHERE d.objid = 'vector_norm'::regproc AND d.deptype = 'e')",
        )
        .expect("query runs");
        assert_eq!(Some(oid), found);
    }

    #[pg_test]
    fn corrupt_datum_is_reported_as_corruption() {
        // A bytea of five bytes, passed off as a vector.
        Spi::run("CREATE CAST (bytea AS vector) WITHOUT FUNCTION").expect("cast is made");
        let (code, message, detail) = failure(r"PERFORM vector_dims('\x0200000000'::bytea::vector)");
        assert_eq!((code.as_str(), message.as_str()), ("XX001", "stored vector is corrupt"));
        assert_eq!(detail.as_deref(), Some("Its header says 2 dimensions, but it has 5 bytes."));
        for bytes in ["", "00", "00000000", "ffff0000", "01000000"] {
            assert_eq!(failure(&format!(r"PERFORM vector_dims('\x{bytes}'::bytea::vector)")).0, "XX001", "{bytes}");
        }
    }

    #[pg_test]
    fn text_errors_have_pgvectors_codes_and_messages() {
        for (input, detail) in [
            ("", Some("Vector contents must start with \"[\".")),
            ("1,2", Some("Vector contents must start with \"[\".")),
            ("[1]x", Some("Junk after closing right brace.")),
            ("[1,2", None),
            ("[1,,2]", None),
            ("[1,x]", None),
        ] {
            let (code, message, found) = failure(&format!("PERFORM '{input}'::text::vector"));
            assert_eq!(code, "22P02", "{input}");
            assert_eq!(message, format!("invalid input syntax for type vector: \"{input}\""));
            assert_eq!(found.as_deref(), detail, "{input}");
        }
        assert_fails("PERFORM '[]'::text::vector", "22000", "vector must have at least 1 dimension");
        assert_fails("PERFORM '[NaN]'::text::vector", "22000", "NaN not allowed in vector");
        assert_fails("PERFORM '[1,-inf]'::text::vector", "22000", "infinite value not allowed in vector");
        assert_fails("PERFORM '[4e38]'::text::vector", "22003", "\"4e38\" is out of range for type vector");
        assert_fails(
            "PERFORM ('[' || repeat('1,', 16000) || '1]')::vector",
            "54000",
            "vector cannot have more than 16000 dimensions",
        );
    }

    #[pg_test]
    fn type_modifier_is_checked_on_every_way_in() {
        for query in [
            "PERFORM '[1,2,3]'::text::vector(2)",
            "PERFORM '[1,2,3]'::vector::vector(2)",
            "PERFORM '{1,2,3}'::real[]::vector(2)",
            "CREATE TEMPORARY TABLE t (v vector(2)); INSERT INTO t VALUES ('[1,2,3]')",
            "CREATE TEMPORARY TABLE t (v vector); INSERT INTO t VALUES ('[1,2,3]'); ALTER TABLE t ALTER v TYPE vector(2)",
        ] {
            assert_fails(query, "22000", "expected 2 dimensions, not 3");
        }
        assert_fails("EXECUTE 'SELECT NULL::vector(0)'", "22023", "dimensions for type vector must be at least 1");
        assert_fails("EXECUTE 'SELECT NULL::vector(16001)'", "22023", "dimensions for type vector cannot exceed 16000");
        assert_fails("EXECUTE 'SELECT NULL::vector(1,2)'", "22023", "invalid type modifier");
    }

    #[pg_test]
    fn array_casts_refuse_what_is_no_vector() {
        assert_fails("PERFORM '{}'::real[]::vector", "22000", "vector must have at least 1 dimension");
        assert_fails("PERFORM '{{1},{2}}'::integer[]::vector", "22000", "array must be 1-D");
        assert_fails("PERFORM '{1,NULL}'::numeric[]::vector", "22004", "array must not contain nulls");
        assert_fails("PERFORM '{NaN}'::double precision[]::vector", "22000", "NaN not allowed in vector");
        assert_fails("PERFORM '{1e39}'::double precision[]::vector", "22000", "infinite value not allowed in vector");
    }

    #[pg_test]
    fn distances_refuse_different_dimensions() {
        for operator in ["<->", "<#>", "<=>", "<+>"] {
            let query = format!("PERFORM '[1,2]'::vector {operator} '[3]'::vector");
            assert_fails(&query, "22000", "different vector dimensions 2 and 1");
        }
    }

    #[pg_test]
    fn order_is_lexicographic_then_by_length() {
        assert_eq!(
            text(
                "SELECT string_agg(v::text, ' ' ORDER BY v) FROM unnest('{[2],\"[1,0]\",[1],\"[1,-1]\"}'::vector[]) v"
            ),
            "[1] [1,-1] [1,0] [2]"
        );
        assert!(is_true(
            "SELECT bool_and((a < b) = (vector_cmp(a, b) < 0) AND (a <= b) = (vector_cmp(a, b) <= 0)
                    AND (a = b) = (vector_cmp(a, b) = 0) AND (a <> b) = (vector_cmp(a, b) <> 0)
                    AND (a >= b) = (vector_cmp(a, b) >= 0) AND (a > b) = (vector_cmp(a, b) > 0)
                    AND vector_cmp(a, b) = -vector_cmp(b, a))
               FROM unnest('{[2],\"[1,0]\",[1],\"[1,-1]\",[-0],[0]}'::vector[]) a,
                    unnest('{[2],\"[1,0]\",[1],\"[1,-1]\",[-0],[0]}'::vector[]) b"
        ));
    }
}
