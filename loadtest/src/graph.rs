//! Models of known size, with random weights: networks that cost something,
//! made where they are needed. Only as much of ONNX's protobuf as that takes.

use std::io::{self, Write};

/// ONNX's number for 32-bit floats.
const FLOAT: u64 = 1;
/// … and for 64-bit integers.
const INT64: u64 = 7;
/// Different tokens of a [`transformer`].
pub const VOCABULARY: u64 = 1000;
/// The width of a head of attention.
const HEAD: u64 = 32;
/// The file beside the model that holds external weights.
pub const WEIGHTS: &str = "model.onnx.data";

/// A protobuf message that grows field by field.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn message(self, field: u64, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

/// A value's type; the first dimension is the batch, open or one.
fn value_info(name: &str, datatype: u64, dims: &[u64], open: bool) -> Message {
    let batch = Message::default();
    let batch = if open { batch.bytes(2, "batch") } else { batch.number(1, 1) };
    let shape = dims.iter().fold(Message::default().message(1, &batch), |shape, dim| {
        shape.message(1, &Message::default().number(1, *dim))
    });
    let tensor = Message::default().number(1, datatype).message(2, &shape);
    let kind = Message::default().message(1, &tensor);
    Message::default().bytes(1, name).message(2, &kind)
}

fn ints(name: &str, values: &[u64]) -> Message {
    let attribute = Message::default().bytes(1, name);
    values.iter().fold(attribute, |attribute, value| attribute.number(8, *value)).number(20, 7)
}

fn int(name: &str, value: u64) -> Message {
    Message::default().bytes(1, name).number(3, value).number(20, 2)
}

/// A graph that grows node by node; weights go where the writer says.
struct Graph<'a> {
    message: Message,
    weights: Option<&'a mut dyn Write>,
    offset: u64,
    values: usize,
    random: u64,
}

impl<'a> Graph<'a> {
    fn new(weights: Option<&'a mut dyn Write>) -> Self {
        Self { message: Message::default(), weights, offset: 0, values: 0, random: 1 }
    }

    fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[Message]) -> String {
        self.values += 1;
        let output = format!("v{}", self.values);
        let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
        let node = node.bytes(2, &output).bytes(3, &output).bytes(4, kind);
        let node = attributes.iter().fold(node, |node, attribute| node.message(5, attribute));
        self.message = std::mem::take(&mut self.message).message(1, &node);
        output
    }

    /// Random weights that keep a signal's size through a layer of `inputs`.
    fn weights(&mut self, dims: &[u64], inputs: u64) -> io::Result<String> {
        self.values += 1;
        let name = format!("w{}", self.values);
        #[expect(clippy::cast_possible_truncation, reason = "a weight")]
        let limit = (3.0 / inputs as f64).sqrt() as f32;
        let count = dims.iter().product::<u64>();
        let data: Vec<u8> =
            (0..count).flat_map(|_| (self.uniform() * limit).to_le_bytes()).collect();
        let tensor = dims.iter().fold(Message::default(), |tensor, dim| tensor.number(1, *dim));
        let tensor = tensor.number(2, FLOAT).bytes(8, &name);
        let tensor = match &mut self.weights {
            None => tensor.bytes(9, data),
            Some(file) => {
                file.write_all(&data)?;
                let (offset, length) = (self.offset.to_string(), data.len().to_string());
                self.offset += data.len() as u64;
                let pairs = [("location", WEIGHTS), ("offset", &offset), ("length", &length)];
                let external = pairs.iter().fold(tensor, |tensor, (key, value)| {
                    tensor.message(13, &Message::default().bytes(1, key).bytes(2, value))
                });
                external.number(14, 1)
            }
        };
        self.message = std::mem::take(&mut self.message).message(5, &tensor);
        Ok(name)
    }

    /// A constant in the graph, from its elements' bytes.
    fn constant(&mut self, datatype: u64, dims: &[u64], data: Vec<u8>) -> String {
        self.values += 1;
        let name = format!("c{}", self.values);
        let tensor = dims.iter().fold(Message::default(), |tensor, dim| tensor.number(1, *dim));
        let tensor = tensor.number(2, datatype).bytes(8, &name).bytes(9, data);
        self.message = std::mem::take(&mut self.message).message(5, &tensor);
        name
    }

    fn same(&mut self, value: f32, count: u64) -> String {
        let data = (0..count).flat_map(|_| value.to_le_bytes()).collect();
        self.constant(FLOAT, &[count], data)
    }

    /// The same elements in another shape; 0 keeps a dimension.
    fn reshape(&mut self, input: &str, dims: &[u64]) -> String {
        let data = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let shape = self.constant(INT64, &[dims.len() as u64], data);
        self.node("Reshape", &[input, &shape], &[])
    }

    /// The sum of two, normalised over the last axis.
    fn add_and_normalise(&mut self, a: &str, b: &str, width: u64) -> String {
        let sum = self.node("Add", &[a, b], &[]);
        let (scale, bias) = (self.same(1.0, width), self.same(0.0, width));
        self.node("LayerNormalization", &[&sum, &scale, &bias], &[])
    }

    /// Attention of all tokens to all, with heads of [`HEAD`] numbers.
    fn attention(&mut self, input: &str, width: u64, tokens: u64) -> io::Result<String> {
        let heads = [0, tokens, width / HEAD, HEAD];
        let mut part = |perm: [u64; 4]| -> io::Result<String> {
            let all = self.dense(input, width, width)?;
            let split = self.reshape(&all, &heads);
            Ok(self.node("Transpose", &[&split], &[ints("perm", &perm)]))
        };
        let (query, key, value) = (part([0, 2, 1, 3])?, part([0, 2, 3, 1])?, part([0, 2, 1, 3])?);
        let scores = self.node("MatMul", &[&query, &key], &[]);
        let scale = self.same((HEAD as f32).sqrt().recip(), 1);
        let scaled = self.node("Mul", &[&scores, &scale], &[]);
        let weights = self.node("Softmax", &[&scaled], &[]);
        let mixed = self.node("MatMul", &[&weights, &value], &[]);
        let back = self.node("Transpose", &[&mixed], &[ints("perm", &[0, 2, 1, 3])]);
        let joined = self.reshape(&back, &[0, tokens, width]);
        self.dense(&joined, width, width)
    }

    /// From -1 to 1 (xorshift64).
    fn uniform(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // 24 bits fill a float.
        (self.random >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// A convolution of this kernel and stride that keeps or halves the image.
    fn conv(&mut self, input: &str, shape: [u64; 4], relu: bool) -> io::Result<String> {
        let [from, to, kernel, stride] = shape;
        let weights = self.weights(&[to, from, kernel, kernel], from * kernel * kernel)?;
        let bias = self.weights(&[to], 1_000_000)?;
        let pad = kernel / 2;
        let attributes = [
            ints("kernel_shape", &[kernel, kernel]),
            ints("strides", &[stride, stride]),
            ints("pads", &[pad; 4]),
        ];
        let output = self.node("Conv", &[input, &weights, &bias], &attributes);
        Ok(if relu { self.node("Relu", &[&output], &[]) } else { output })
    }

    fn dense(&mut self, input: &str, from: u64, to: u64) -> io::Result<String> {
        let weights = self.weights(&[from, to], from)?;
        let bias = self.weights(&[to], 1_000_000)?;
        let product = self.node("MatMul", &[input, &weights], &[]);
        Ok(self.node("Add", &[&product, &bias], &[]))
    }

    fn encoder(&mut self, layers: u64, width: u64, tokens: u64) -> io::Result<String> {
        // Not scaled down: what follows is normalised.
        let table = self.weights(&[VOCABULARY, width], 3)?;
        let mut value = self.node("Gather", &[&table, "input"], &[]);
        for _ in 0..layers {
            let mixed = self.attention(&value, width, tokens)?;
            let first = self.add_and_normalise(&value, &mixed, width);
            let wide = self.dense(&first, width, width * 4)?;
            let wide = self.node("Relu", &[&wide], &[]);
            let back = self.dense(&wide, width * 4, width)?;
            value = self.add_and_normalise(&first, &back, width);
        }
        let mean = self.node("ReduceMean", &[&value], &[ints("axes", &[1]), int("keepdims", 0)]);
        self.dense(&mean, width, 2)
    }

    /// The model's file; `last` becomes the output.
    fn finish(mut self, last: &str, input: (u64, &[u64]), output: u64) -> Vec<u8> {
        // One image at a time keeps the trial of a large graph short.
        let open = self.weights.is_none();
        let node = Message::default().bytes(1, last).bytes(2, "output").bytes(4, "Identity");
        self.message = std::mem::take(&mut self.message).message(1, &node);
        let graph =
            self.message.bytes(2, "made").message(11, &value_info("input", input.0, input.1, open));
        let graph = graph.message(12, &value_info("output", FLOAT, &[output], open));
        let opset = Message::default().bytes(1, "").number(2, 17);
        let model = Message::default().number(1, 8).bytes(2, "loadtest").message(8, &opset);
        model.message(7, &graph).0
    }
}

/// A network of fully connected layers of these widths, the input's first.
///
/// # Panics
/// If there are fewer than two.
#[must_use]
pub fn mlp(widths: &[u64]) -> Vec<u8> {
    let (Some(first), Some(last)) = (widths.first(), widths.last()) else {
        panic!("a network has an input and an output");
    };
    let mut graph = Graph::new(None);
    let mut value = "input".to_owned();
    for (layer, pair) in widths.windows(2).enumerate() {
        value = graph.dense(&value, pair[0], pair[1]).expect("memory can be written");
        if layer + 2 < widths.len() {
            value = graph.node("Relu", &[&value], &[]);
        }
    }
    graph.finish(&value, (FLOAT, &[*first]), *last)
}

/// A transformer's encoder (Vaswani et al., NIPS 2017) over `tokens` numbers below
/// [`VOCABULARY`], with heads of 32 and a classifier of two classes over the mean
/// of the tokens.
///
/// # Panics
/// If the width is no multiple of 32.
#[must_use]
pub fn transformer(layers: u64, width: u64, tokens: u64) -> Vec<u8> {
    assert!(width > 0 && width.is_multiple_of(HEAD), "a width is a multiple of {HEAD}");
    let mut graph = Graph::new(None);
    let last = graph.encoder(layers, width, tokens).expect("memory can be written");
    graph.finish(&last, (INT64, &[tokens]), 2)
}

/// A residual network of 50 layers for images of 224 × 224, batch
/// normalisation folded into its convolutions (He et al., CVPR 2016): 25.5
/// million weights, which go to `weights`. The model's file, without them.
///
/// # Errors
/// If `weights` cannot be written.
pub fn resnet50(weights: &mut dyn Write) -> io::Result<Vec<u8>> {
    let mut graph = Graph::new(Some(weights));
    let stem = graph.conv("input", [3, 64, 7, 2], true)?;
    let pool = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    let mut value = graph.node("MaxPool", &[&stem], &pool);
    let mut from = 64;
    for (stage, (width, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate()
    {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let inner = graph.conv(&value, [from, width, 1, 1], true)?;
            let inner = graph.conv(&inner, [width, width, 3, stride], true)?;
            let inner = graph.conv(&inner, [width, width * 4, 1, 1], false)?;
            let around = match block {
                0 => graph.conv(&value, [from, width * 4, 1, stride], false)?,
                _ => value,
            };
            let sum = graph.node("Add", &[&inner, &around], &[]);
            value = graph.node("Relu", &[&sum], &[]);
            from = width * 4;
        }
    }
    let pooled = graph.node("GlobalAveragePool", &[&value], &[]);
    let flat = graph.node("Flatten", &[&pooled], &[]);
    let last = graph.dense(&flat, 2048, 1000)?;
    Ok(graph.finish(&last, (FLOAT, &[3, 224, 224]), 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_are_protobuf() {
        let message = Message::default().number(1, 300).bytes(2, "ab");
        assert_eq!(message.0, [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b']);
    }

    #[test]
    fn resnet_has_as_many_weights_as_the_real_one() {
        let mut weights = Vec::new();
        let model = resnet50(&mut weights).unwrap();
        // 25,557,032 with batch normalisation; folding leaves a bias of each channel.
        assert_eq!(weights.len(), 4 * 25_530_472);
        assert!(model.len() < 50_000, "{}", model.len());
    }

    #[test]
    fn a_transformer_has_the_weights_of_its_layers() {
        let (width, layers) = (64, 3);
        let layer = 4 * (width * width + width) + 2 * 4 * width * width + 5 * width + 4 * width;
        let weights = VOCABULARY * width + layers * layer + 2 * width + 2;
        let bytes = transformer(layers, width, 16).len() as u64;
        assert!((4 * weights..4 * weights + 20_000).contains(&bytes), "{bytes}, {weights}");
    }

    #[test]
    fn dense_weights_are_in_the_file() {
        assert!(mlp(&[4, 1000, 2]).len() > 4 * 6 * 1000);
    }
}
