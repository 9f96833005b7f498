//! The SQL functions of each type: one definition per operation, stamped out as the C symbols that `sql/types/` names.
//!
//! Only signatures are here; what a function does is in the file of its kind.

#![allow(unsafe_code)]

use super::array::{NumberArray, RealArray, TypeModifiers};
use super::bits::Bits;
use super::casts::JsonText;
use super::dense::{with_pair, Dense, DenseRef};
use super::error_map::{from_arithmetic, from_vector, Result};
use super::io::Text;
use super::sparse::{dimensions, with_sparse_pair, Sparse, SparseArg};
use super::state::{in_aggregate, State, StateArg};
use super::{aggregate, casts, distance, io};
use half::f16;
use pg_rag_engine::{sparse, vector};
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::cmp::Ordering;
use std::ffi::CStr;

/// Text, binary, type modifier and casts of a dense type.
macro_rules! dense_io {
    ($type:ident, $element:ty) => {
        pastey::paste! {
            #[pg_extern(sql = false)]
            fn [<$type _in>](input: &CStr, _element: pg_sys::Oid, typmod: i32) -> Result<Dense<$element>> {
                io::dense_from_text(input, typmod)
            }

            #[pg_extern(sql = false)]
            fn [<$type _out>](v: DenseRef<'_, $element>) -> Text {
                Text(vector::print::<$element>(&v))
            }

            #[pg_extern(sql = false)]
            fn [<$type _typmod_in>](modifiers: TypeModifiers) -> Result<i32> {
                io::read_typmod(&modifiers, stringify!($type), vector::MAX_DIMENSIONS as i32)
            }

            #[pg_extern(sql = false)]
            fn [<$type _recv>](message: Internal, _element: pg_sys::Oid, typmod: i32) -> Result<Dense<$element>> {
                io::dense_from_message(message, typmod)
            }

            #[pg_extern(sql = false)]
            fn [<$type _send>](v: DenseRef<'_, $element>) -> Vec<u8> {
                vector::encode_binary::<$element>(&v)
            }

            #[pg_extern(sql = false)]
            fn [<$type _to_ $type>](v: DenseRef<'_, $element>, typmod: i32, _explicit: bool) -> Result<Dense<$element>> {
                io::check_typmod(v.len(), typmod)?;
                Ok(Dense::from(v))
            }

            #[pg_extern(sql = false)]
            fn [<array_to_ $type>](array: NumberArray, typmod: i32, _explicit: bool) -> Result<Dense<$element>> {
                casts::dense_from_array(&array, typmod)
            }

            #[pg_extern(sql = false)]
            fn [<jsonb_to_ $type>](json: JsonText, typmod: i32, _explicit: bool) -> Result<Dense<$element>> {
                casts::dense_from_json(&json, typmod)
            }

            #[pg_extern(sql = false)]
            fn [<$type _to_float4>](v: DenseRef<'_, $element>, _typmod: i32, _explicit: bool) -> RealArray {
                RealArray(v.iter().map(|&x| vector::Element::to_f32(x)).collect())
            }

            #[pg_extern(sql = false)]
            fn [<$type _to_sparsevec>](v: DenseRef<'_, $element>, typmod: i32, _explicit: bool) -> Result<Sparse> {
                casts::sparse_from_dense::<$element>(&v, typmod)
            }

            #[pg_extern(sql = false)]
            fn [<sparsevec_to_ $type>](v: SparseArg<'_>, typmod: i32, _explicit: bool) -> Result<Dense<$element>> {
                casts::dense_from_sparse(v.get(), typmod)
            }
        }
    };
}

/// What a dense type can do: distances, arithmetic, aggregates.
macro_rules! dense_functions {
    ($type:ident, $element:ty) => {
        pastey::paste! {
            dense_distances! {
                $element,
                [<$type _l2_distance>] => distance::l2,
                [<$type _l2_squared_distance>] => distance::l2_squared,
                [<$type _inner_product>] => distance::inner_product,
                [<$type _negative_inner_product>] => distance::negative_inner_product,
                [<$type _cosine_distance>] => distance::cosine,
                [<$type _l1_distance>] => distance::l1,
                [<$type _spherical_distance>] => distance::spherical,
            }

            dense_arithmetic! {
                $element,
                [<$type _add>] => vector::add,
                [<$type _sub>] => vector::subtract,
                [<$type _mul>] => vector::multiply,
                [<$type _concat>] => vector::concat,
            }

            #[pg_extern(sql = false)]
            fn [<$type _dims>](v: DenseRef<'_, $element>) -> i32 {
                // At most 16,000.
                v.len() as i32
            }

            #[pg_extern(sql = false)]
            fn [<$type _norm>](v: DenseRef<'_, $element>) -> f64 {
                vector::norm::<$element>(&v)
            }

            #[pg_extern(sql = false)]
            fn [<$type _l2_normalize>](v: DenseRef<'_, $element>) -> Dense<$element> {
                Dense::checked(vector::l2_normalized::<$element>(&v))
            }

            #[pg_extern(sql = false)]
            fn [<$type _binary_quantize>](v: DenseRef<'_, $element>) -> Bits {
                Bits { length_bits: v.len(), bits: vector::binary_quantize::<$element>(&v) }
            }

            #[pg_extern(sql = false)]
            fn [<$type _subvector>](v: DenseRef<'_, $element>, start: i32, count: i32) -> Result<Dense<$element>> {
                let part = vector::subvector::<$element>(&v, start, count).map_err(from_vector)?;
                Ok(Dense::checked(part.to_vec()))
            }

            #[pg_extern(sql = false)]
            fn [<$type _accum>](
                state: StateArg,
                row: DenseRef<'_, $element>,
                fcinfo: pg_sys::FunctionCallInfo,
            ) -> Result<State> {
                transition(&state, fcinfo, stringify!([<$type _accum>]), |state| aggregate::accumulate::<$element>(state, &row))
            }

            #[pg_extern(sql = false)]
            fn [<$type _combine>](
                state: StateArg,
                other: StateArg,
                fcinfo: pg_sys::FunctionCallInfo,
            ) -> Result<State> {
                combine(&state, &other, fcinfo)
            }

            #[pg_extern(sql = false)]
            fn [<$type _avg>](state: StateArg) -> Result<Option<Dense<$element>>> {
                aggregate::average(&state.read(stringify!([<$type _avg>]))?)
            }

            #[pg_extern(sql = false)]
            fn [<$type _window_add>](
                state: StateArg,
                row: DenseRef<'_, $element>,
                fcinfo: pg_sys::FunctionCallInfo,
            ) -> Result<State> {
                transition(&state, fcinfo, stringify!([<$type _window_add>]), |state| {
                    aggregate::window_add::<$element>(state, &row)
                })
            }

            #[pg_extern(sql = false)]
            fn [<$type _window_remove>](
                state: StateArg,
                row: DenseRef<'_, $element>,
                fcinfo: pg_sys::FunctionCallInfo,
            ) -> Result<Option<State>> {
                transition(&state, fcinfo, stringify!([<$type _window_remove>]), |state| {
                    aggregate::window_remove::<$element>(state, &row)
                })
            }

            #[pg_extern(sql = false)]
            fn [<$type _window_avg>](state: StateArg) -> Result<Option<Dense<$element>>> {
                aggregate::window_average(&state.read(stringify!([<$type _window_avg>]))?)
            }

            #[pg_extern(sql = false)]
            fn [<$type _window_sum>](state: StateArg) -> Result<Option<Dense<$element>>> {
                aggregate::window_sum(&state.read(stringify!([<$type _window_sum>]))?)
            }
        }
    };
}

macro_rules! dense_distances {
    ($element:ty, $($function:ident => $kernel:path,)*) => { $(
        #[pg_extern(sql = false)]
        fn $function(fcinfo: pg_sys::FunctionCallInfo) -> f64 {
            // SAFETY: declared STRICT, for two arguments of this type.
            unsafe { with_pair::<$element, _>(fcinfo, |a, b| $kernel(a, b)) }
        }
    )* };
}

macro_rules! dense_arithmetic {
    ($element:ty, $($function:ident => $operation:path,)*) => { $(
        #[pg_extern(sql = false)]
        fn $function(a: DenseRef<'_, $element>, b: DenseRef<'_, $element>) -> Result<Dense<$element>> {
            Ok(Dense::checked($operation(&*a, &*b).map_err(from_arithmetic)?))
        }
    )* };
}

macro_rules! sparse_distances {
    ($($function:ident => $kernel:expr;)*) => { $(
        #[pg_extern(sql = false)]
        fn $function(fcinfo: pg_sys::FunctionCallInfo) -> f64 {
            // SAFETY: declared STRICT, for two arguments of this type.
            unsafe { with_sparse_pair(fcinfo, |a, b| distance::sparse(a, b, $kernel)) }
        }
    )* };
}

/// The comparison operators and the support function of the btree operator class. `$order` is a
/// function that compares the two arguments of a call.
macro_rules! comparisons {
    ($type:ident, $order:ident) => {
        pastey::paste! {
            comparison_operators! {
                $order,
                [<$type _lt>] => is_lt,
                [<$type _le>] => is_le,
                [<$type _eq>] => is_eq,
                [<$type _ne>] => is_ne,
                [<$type _ge>] => is_ge,
                [<$type _gt>] => is_gt,
            }

            #[pg_extern(sql = false)]
            fn [<$type _cmp>](fcinfo: pg_sys::FunctionCallInfo) -> i32 {
                $order(fcinfo) as i32
            }
        }
    };
}

macro_rules! comparison_operators {
    ($order:ident, $($function:ident => $holds:ident,)*) => { $(
        #[pg_extern(sql = false)]
        fn $function(fcinfo: pg_sys::FunctionCallInfo) -> bool {
            $order(fcinfo).$holds()
        }
    )* };
}

/// The order of the two arguments of a call.
#[inline(always)]
fn order_of_vectors(fcinfo: pg_sys::FunctionCallInfo) -> Ordering {
    // SAFETY: called by the functions of this type only, which are STRICT and take two of it.
    unsafe { with_pair::<f32, _>(fcinfo, vector::compare) }
}

/// The order of the two arguments of a call.
#[inline(always)]
fn order_of_halfvecs(fcinfo: pg_sys::FunctionCallInfo) -> Ordering {
    // SAFETY: called by the functions of this type only, which are STRICT and take two of it.
    unsafe { with_pair::<f16, _>(fcinfo, vector::compare) }
}

/// The order of the two arguments of a call.
fn order_of_sparsevecs(fcinfo: pg_sys::FunctionCallInfo) -> Ordering {
    // SAFETY: called by the functions of this type only, which are STRICT and take two of it.
    unsafe { with_sparse_pair(fcinfo, sparse::compare) }
}

/// Runs a transition function over the state in its first argument, which it may change.
fn transition<T>(
    state: &StateArg,
    fcinfo: pg_sys::FunctionCallInfo,
    function: &str,
    change: impl FnOnce(State) -> Result<T>,
) -> Result<T> {
    // SAFETY: every caller passes its own `fcinfo` and first argument on.
    change(unsafe { state.change(fcinfo, function) }?)
}

/// Combines two states, of either type: pgvector has one function for both, whose name is in its errors.
fn combine(state: &StateArg, other: &StateArg, fcinfo: pg_sys::FunctionCallInfo) -> Result<State> {
    let combined = aggregate::combine(&state.read("vector_combine")?, &other.read("vector_combine")?)?;
    // Workers may have found no rows. Called by hand, that is an error, as in pgvector.
    // SAFETY: the caller passes its own `fcinfo` on.
    if combined.numbers().len() == 1 && !unsafe { in_aggregate(fcinfo) } {
        return Err(from_vector(vector::VectorError::Empty("vector")));
    }
    Ok(combined)
}

dense_io!(vector, f32);
dense_functions!(vector, f32);
comparisons!(vector, order_of_vectors);

dense_io!(halfvec, f16);
dense_functions!(halfvec, f16);
comparisons!(halfvec, order_of_halfvecs);

comparisons!(sparsevec, order_of_sparsevecs);

sparse_distances! {
    sparsevec_l2_distance => |a, b| f64::from(sparse::distance::l2_squared(a, b)).sqrt();
    sparsevec_l2_squared_distance => |a, b| f64::from(sparse::distance::l2_squared(a, b));
    sparsevec_inner_product => |a, b| f64::from(sparse::distance::inner_product(a, b));
    sparsevec_negative_inner_product => |a, b| -f64::from(sparse::distance::inner_product(a, b));
    sparsevec_cosine_distance => sparse::distance::cosine;
    sparsevec_l1_distance => |a, b| f64::from(sparse::distance::l1(a, b));
}

#[pg_extern(sql = false)]
fn halfvec_to_vector(v: DenseRef<'_, f16>, typmod: i32, _explicit: bool) -> Result<Dense<f32>> {
    casts::dense_from_dense::<f16, f32>(&v, typmod)
}

#[pg_extern(sql = false)]
fn vector_to_halfvec(v: DenseRef<'_, f32>, typmod: i32, _explicit: bool) -> Result<Dense<f16>> {
    casts::dense_from_dense::<f32, f16>(&v, typmod)
}

#[pg_extern(sql = false)]
fn sparsevec_in(input: &CStr, _element: pg_sys::Oid, typmod: i32) -> Result<Sparse> {
    io::sparse_from_text(input, typmod)
}

#[pg_extern(sql = false)]
fn sparsevec_out(v: SparseArg<'_>) -> Text {
    Text(sparse::print(v.get()))
}

#[pg_extern(sql = false)]
fn sparsevec_typmod_in(modifiers: TypeModifiers) -> Result<i32> {
    io::read_typmod(&modifiers, "sparsevec", sparse::MAX_DIMENSIONS)
}

#[pg_extern(sql = false)]
fn sparsevec_recv(message: Internal, _element: pg_sys::Oid, typmod: i32) -> Result<Sparse> {
    io::sparse_from_message(message, typmod)
}

#[pg_extern(sql = false)]
fn sparsevec_send(v: SparseArg<'_>) -> Vec<u8> {
    sparse::encode_binary(v.get())
}

#[pg_extern(sql = false)]
fn sparsevec_to_sparsevec(v: SparseArg<'_>, typmod: i32, _explicit: bool) -> Result<Sparse> {
    io::check_typmod(dimensions(v.get()), typmod)?;
    Ok(Sparse(v.get().to_owned()))
}

#[pg_extern(sql = false)]
fn array_to_sparsevec(array: NumberArray, typmod: i32, _explicit: bool) -> Result<Sparse> {
    casts::sparse_from_array(&array, typmod)
}

#[pg_extern(sql = false)]
fn sparsevec_norm(v: SparseArg<'_>) -> f64 {
    sparse::norm(v.get())
}

#[pg_extern(sql = false)]
fn sparsevec_l2_normalize(v: SparseArg<'_>) -> Sparse {
    Sparse(sparse::l2_normalized(v.get()))
}
