//! Linear layers in 8 bits: a quarter of the memory traffic, and up to four times the speed of the multiplier.
//!
//! Weights are symmetric, one scale for each output. Activations are quantised row by row just before the product, also
//! symmetrically, with 127 for the row's largest magnitude. Sums are exact in 32 bits: inputs up to 2²⁴ / 127 would fit.
//! Everything between the products stays in f32.
#![allow(unsafe_code)]

use super::dots::{dispatch_dots, ByteBlock, Dots, IntBlock};
use super::kernels::activate;
use super::lanes::{blocks_of, dispatch, Block, Lanes, LANES, ROUND};
use super::linear::chunk_panels;
use super::product::{row_groups, with_rows, Panels, Tile};
use super::shape::Activation;
use crate::compute::Crew;

/// Inputs that one factor of [`Dots`] holds.
const QUAD: usize = 4;
/// Rows that are quantised together.
const QUANTIZED_ROWS: usize = 4;

/// Rows of activations in 8 bits: 64 columns of a row are a block, in panels as in [`Panels`]; and a scale for each row.
#[derive(Default)]
pub struct Codes {
    blocks: Vec<ByteBlock>,
    scales: Vec<f32>,
}

impl Codes {
    /// Replaces the codes by those of the first `rows` rows and `columns` columns of `input`.
    fn quantize(&mut self, input: Panels<'_>, rows: usize, columns: usize) {
        let panels = columns.div_ceil(LANES);
        let blocks = panels.div_ceil(QUAD) * input.stride;
        // Only grows; what is read later is written first.
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, ByteBlock::ZERO);
        }
        self.scales.resize(rows, 0.0);
        quantize_rows(input, panels, &mut self.blocks, &mut self.scales);
    }
}

dispatch! {
    /// As many rows as there are scales.
    fn quantize_rows(input: Panels<'_>, panels: usize, codes: &mut [ByteBlock], scales: &mut [f32]) = quantize_kernel;
}

#[inline(always)]
fn quantize_kernel<L: Lanes>(input: Panels<'_>, panels: usize, codes: &mut [ByteBlock], scales: &mut [f32]) {
    let (groups, rest) = scales.as_chunks_mut::<QUANTIZED_ROWS>();
    let first_of_rest = groups.len() * QUANTIZED_ROWS;
    for (group, scales) in groups.iter_mut().enumerate() {
        quantize_group::<L, QUANTIZED_ROWS>(input, group * QUANTIZED_ROWS, panels, codes, scales);
    }
    for (row, scale) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        quantize_group::<L, 1>(input, first_of_rest + row, panels, codes, scale);
    }
}

/// N neighbouring rows together, so that no row's search for its largest number waits for itself.
#[inline(always)]
fn quantize_group<L: Lanes, const N: usize>(
    input: Panels<'_>,
    row: usize,
    panels: usize,
    codes: &mut [ByteBlock],
    scales: &mut [f32; N],
) {
    let Panels { blocks, stride } = input;
    let mut largest = [L::splat(0.0); N];
    for panel in 0..panels {
        for (largest, block) in largest.iter_mut().zip(&blocks[panel * stride + row..][..N]) {
            *largest = L::load(block).abs().max(*largest);
        }
    }
    let mut factors = [L::splat(0.0); N];
    for ((factor, scale), largest) in factors.iter_mut().zip(scales).zip(largest) {
        let largest = largest.largest();
        *scale = largest / 127.0;
        *factor = L::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    }
    for panel in 0..panels {
        let targets = &mut codes[panel / QUAD * stride + row..][..N];
        let blocks = &blocks[panel * stride + row..][..N];
        for ((target, block), factor) in targets.iter_mut().zip(blocks).zip(factors) {
            let bytes = L::load(block).mul_add(factor, L::splat(128.0)).to_bytes();
            target.0.as_chunks_mut::<LANES>().0[panel % QUAD] = bytes;
        }
    }
}

/// What turns the sums of a panel into outputs.
struct Column {
    /// -128 · the sum of the weights: takes back the offset of the codes.
    start: IntBlock,
    scale: Block,
    bias: Block,
}

/// Weights of a linear layer in 8 bits.
pub struct Quantized {
    inputs: usize,
    quads: usize,
    /// `[panels, quads]`; outputs past the last and inputs past the last are zero.
    weights: Vec<ByteBlock>,
    /// One for each panel.
    columns: Vec<Column>,
}

impl Quantized {
    /// Quantises and packs `weight`, which is `[outputs, inputs]`; `bias` has one number for each output.
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let quads = inputs.div_ceil(QUAD);
        let panels = bias.len().div_ceil(LANES);
        let mut weights = vec![ByteBlock::ZERO; panels * quads];
        let mut sums = vec![[0_i32; LANES]; panels];
        let mut scales = vec![0.0; panels * LANES];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (panel, lane) = (output / LANES, output % LANES);
            let largest = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            scales[output] = largest / 127.0;
            let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            for (input, value) in row.iter().enumerate() {
                // From -127 to 127: the addition rounds, and the low byte holds two's complement.
                let code = (value * factor + ROUND).to_bits() as i8;
                weights[panel * quads + input / QUAD].0[lane * QUAD + input % QUAD] = code as u8;
                sums[panel][lane] += i32::from(code);
            }
        }
        let columns = sums.into_iter().zip(blocks_of(&scales)).zip(blocks_of(bias));
        let columns =
            columns.map(|((sums, scale), bias)| Column { start: IntBlock(sums.map(|sum| -128 * sum)), scale, bias });
        Self { inputs, quads, weights, columns: columns.collect() }
    }

    /// Bytes that the layer holds.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.columns)
    }

    /// output ← activation(input · weightᵀ + bias) for the first `rows` rows, in panels of the input's stride. `codes` is
    /// a buffer that is kept between calls.
    pub fn apply(
        &self,
        crew: &mut Crew,
        input: Panels<'_>,
        rows: usize,
        activation: Option<Activation>,
        output: &mut [Block],
        codes: &mut Codes,
    ) {
        codes.quantize(input, rows, self.inputs);
        let codes = &*codes;
        let (stride, quads) = (input.stride, self.quads);
        let panels = chunk_panels(self.columns.len(), quads * size_of::<ByteBlock>(), crew.threads());
        crew.for_chunks_mut(&mut output[..self.columns.len() * stride], panels * stride, |chunk, output| {
            let first = chunk * panels;
            let columns = &self.columns[first..][..output.len() / stride];
            let weights = &self.weights[first * quads..][..columns.len() * quads];
            multiply_codes(weights, quads, columns, codes, rows, activation, output, stride);
        });
    }
}

impl<D: Dots> Tile for Sums<D> {
    const ROWS: usize = D::TILE_ROWS;
}

/// The tiles of an implementation of [`Dots`].
struct Sums<D>(std::marker::PhantomData<D>);

dispatch_dots! {
    fn multiply_codes(
        weights: &[ByteBlock], quads: usize, columns: &[Column], codes: &Codes, rows: usize,
        activation: Option<Activation>, output: &mut [Block], stride: usize,
    ) = multiply_kernel;
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn multiply_kernel<D: Dots>(
    weights: &[ByteBlock],
    quads: usize,
    columns: &[Column],
    codes: &Codes,
    rows: usize,
    activation: Option<Activation>,
    output: &mut [Block],
    stride: usize,
) {
    let together = D::TILE_PANELS;
    let groups = weights.chunks(together * quads).zip(output.chunks_mut(together * stride));
    for ((weights, output), columns) in groups.zip(columns.chunks(together)) {
        if columns.len() == 2 {
            let weights = [&weights[..quads], &weights[quads..]];
            multiply_rows::<D, 2>(weights, quads, columns, codes, rows, output, stride);
        } else {
            multiply_rows::<D, 1>([weights], quads, columns, codes, rows, output, stride);
        }
        if let Some(activation) = activation {
            for panel in output.chunks_mut(stride) {
                activate::<D::Lanes>(&mut panel[..rows], activation);
            }
        }
    }
}

#[inline(always)]
fn multiply_rows<D: Dots, const P: usize>(
    weights: [&[ByteBlock]; P],
    quads: usize,
    columns: &[Column],
    codes: &Codes,
    rows: usize,
    output: &mut [Block],
    stride: usize,
) {
    for (row, count) in row_groups(rows, D::TILE_ROWS) {
        let scales = &codes.scales[row..];
        let codes = &codes.blocks[row..];
        with_rows!(Sums<D>, count, N => {
            let sums = tile::<D, N, P>(codes, stride, quads, weights, columns);
            for panel in 0..P {
                let Column { scale, bias, .. } = &columns[panel];
                let (scale, bias) = (D::Lanes::load(scale), D::Lanes::load(bias));
                let output = &mut output[panel * stride + row..][..N];
                for ((output, sums), row_scale) in output.iter_mut().zip(&sums).zip(scales) {
                    sums[panel].to_lanes().mul(D::Lanes::splat(*row_scale)).mul_add(scale, bias).store(output);
                }
            }
        });
    }
}

/// The sums of the first N rows for P panels of weights. As [`super::product::tile`].
#[inline(always)]
fn tile<D: Dots, const N: usize, const P: usize>(
    codes: &[ByteBlock],
    stride: usize,
    quads: usize,
    weights: [&[ByteBlock]; P],
    columns: &[Column],
) -> [[D; P]; N] {
    const ZERO: IntBlock = IntBlock([0; LANES]);
    let start = std::array::from_fn(|panel| D::load(if D::OFFSET == 0 { &ZERO } else { &columns[panel].start }));
    let mut sums: [[D; P]; N] = [start; N];
    let weights = weights.map(|weights| &weights[..quads]);
    for first in (0..quads).step_by(LANES) {
        let rows = &codes[first / LANES * stride..][..N];
        let count = LANES.min(quads - first);
        if count == LANES {
            let weights = weights.map(|weights| &weights[first..first + LANES]);
            for at in 0..LANES {
                accumulate(&mut sums, rows, at, weights, at);
            }
        } else {
            for at in 0..count {
                accumulate(&mut sums, rows, at, weights, first + at);
            }
        }
    }
    sums
}

/// Adds the products of four inputs: quad `at` of each row with block `weight` of each panel.
#[inline(always)]
fn accumulate<D: Dots, const N: usize, const P: usize>(
    sums: &mut [[D; P]; N],
    rows: &[ByteBlock],
    at: usize,
    weights: [&[ByteBlock]; P],
    weight: usize,
) {
    for (sums, row) in sums.iter_mut().zip(rows) {
        let factors = row.0.as_chunks::<QUAD>().0[at];
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum = sum.add_products(factors, &weights[weight]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dots;
    use super::super::lanes::limit::each_level;
    use super::*;
    use crate::compute::Pool;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 32768.0 - 1.0).collect()
    }

    fn in_panels(values: &[f32], columns: usize, stride: usize) -> Vec<Block> {
        let mut blocks = vec![Block::ZERO; columns.div_ceil(LANES) * stride];
        for (row, values) in values.chunks(columns).enumerate() {
            for (panel, block) in blocks_of(values).into_iter().enumerate() {
                blocks[panel * stride + row] = block;
            }
        }
        blocks
    }

    /// Codes and scale of a row, by the definition.
    fn codes_of(row: &[f32]) -> (Vec<i32>, f64) {
        let largest = row.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let code = |x: &f32| if largest > 0.0 { (x * (127.0 / largest)).round_ties_even() as i32 } else { 0 };
        (row.iter().map(code).collect(), f64::from(largest) / 127.0)
    }

    #[test]
    fn sums_are_those_of_the_quantised_numbers() {
        // Rows around the tiles, inputs around quads and blocks, extreme values of one sign in every product.
        for (rows, outputs, inputs, extreme) in
            [(1, 1, 1, false), (3, 33, 7, false), (5, 16, 64, true), (15, 40, 130, false), (43, 70, 384, true)]
        {
            let mut input = numbers(rows * inputs, 1);
            let mut weight = numbers(outputs * inputs, 2);
            if extreme {
                input.iter_mut().for_each(|x| *x = 3.0);
                weight.iter_mut().for_each(|x| *x = -2.0);
            }
            let bias = numbers(outputs, 3);
            let stride = rows + 1;
            let blocks = in_panels(&input, inputs, stride);
            let source = Panels { blocks: &blocks, stride };
            let linear = Quantized::new(&weight, &bias, inputs);
            let check = |crew: &mut Crew| {
                let mut output = vec![Block([f32::NAN; LANES]); outputs.div_ceil(LANES) * stride];
                linear.apply(crew, source, rows, None, &mut output, &mut Codes::default());
                for row in 0..rows {
                    let (row_codes, row_scale) = codes_of(&input[row * inputs..][..inputs]);
                    for column in 0..outputs {
                        let (weight_codes, scale) = codes_of(&weight[column * inputs..][..inputs]);
                        let sum: i32 = row_codes.iter().zip(&weight_codes).map(|(a, b)| a * b).sum();
                        let want = f64::from(sum) * row_scale * scale + f64::from(bias[column]);
                        let got = f64::from(output[column / LANES * stride + row].0[column % LANES]);
                        // A code may differ by one where the number was half-way between two.
                        let slack = if extreme { 1e-5 * want.abs() } else { 1e-4 + 3.0 * 127.0 * row_scale * scale };
                        assert!((got - want).abs() < slack, "{rows} × {outputs} × {inputs}: {got}, not {want}");
                    }
                }
            };
            each_level(|| check(&mut Crew::alone()));
            Pool::new(2).unwrap().with_crew(|crew| check(crew));
        }
    }

    #[test]
    fn a_row_of_zeros_gives_the_bias() {
        let linear = Quantized::new(&[1.0, 2.0, 0.0, 0.0], &[0.25, -4.0], 2);
        let input = Panels { blocks: &[Block::ZERO], stride: 1 };
        let mut output = [Block::ZERO];
        linear.apply(&mut Crew::alone(), input, 1, None, &mut output, &mut Codes::default());
        assert_eq!(output[0].0[..3], [0.25, -4.0, 0.0]);
    }

    /// Adds products in many ways that could overflow an intermediate sum.
    fn adds_up<D: Dots>() -> Vec<[f32; LANES]> {
        let mut results = Vec::new();
        for (factor, weight) in [(255, 127), (255, -127), (1, 127), (1, -127), (128, 127), (77, -3), (129, 100)] {
            let weights =
                ByteBlock(std::array::from_fn(|at| if at % 8 < 5 { weight as i8 as u8 } else { at as u8 / 2 }));
            let start: [i32; LANES] = std::array::from_fn(|lane| {
                let sum: i32 = weights.0[lane * QUAD..][..QUAD].iter().map(|w| i32::from(*w as i8)).sum();
                -D::OFFSET * sum * 2
            });
            let mut sums = D::load(&IntBlock(start));
            for factors in [[factor; 4], [factor, 1, 255, 128]] {
                sums = sums.add_products(factors, &weights);
            }
            let mut block = Block::ZERO;
            sums.to_lanes().store(&mut block);
            results.push(block.0);
        }
        results
    }

    #[test]
    fn every_implementation_gives_the_same_sums() {
        let truth = adds_up::<dots::Portable>();
        // 4 · 127 · 127 of the equal factors, and 127 · (127 - 127 + 127 + 0) of the others.
        assert_eq!(truth[0][0], 5.0 * 127.0 * 127.0);
        #[cfg(target_arch = "x86_64")]
        {
            use super::super::dots_x86::{Avx2, Avx512Vnni, AvxVnni};
            if Avx2::detected() {
                assert_eq!(adds_up::<Avx2>(), truth);
            }
            if AvxVnni::detected() {
                assert_eq!(adds_up::<AvxVnni>(), truth);
            }
            if Avx512Vnni::detected() {
                assert_eq!(adds_up::<Avx512Vnni>(), truth);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use super::super::dots_neon::{DotProduct, Neon};
            assert_eq!(adds_up::<Neon>(), truth);
            if DotProduct::detected() {
                assert_eq!(adds_up::<DotProduct>(), truth);
            }
        }
    }
}
