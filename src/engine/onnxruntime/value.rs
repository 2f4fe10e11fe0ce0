//! Our tensors as the library's values and back.
//!
//! Numbers go in without a copy: the value borrows the tensor's buffer, which
//! the library only reads. What comes out is copied once, into buffers of
//! ours. Strings are copied both ways.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use half::f16;
use ort::sys::{
    ONNXTensorElementDataType, OrtAllocatorType, OrtApi, OrtMemType, OrtMemoryInfo, OrtStatusPtr,
    OrtTensorTypeAndShapeInfo, OrtValue,
};

use crate::types::{Data, Datatype, Tensor, element_count};

/// The library's functions. There is one table per process, and it stays.
pub(super) type Api = &'static OrtApi;

/// Turns a status into a result; frees the status.
///
/// # Safety
/// The status comes from a function of the library, and is used here only.
pub(super) unsafe fn check(status: OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: as promised by the caller.
    unsafe { ort::Error::result_from_status(status) }
}

/// A value of the library, freed when it is dropped. It may borrow a buffer.
pub(super) struct Value<'a> {
    api: Api,
    ptr: NonNull<OrtValue>,
    borrowed: PhantomData<&'a [u8]>,
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: the value is ours, and nobody uses it after this.
        unsafe { (self.api.ReleaseValue)(self.ptr.as_ptr()) };
    }
}

impl<'a> Value<'a> {
    /// Takes over what a function of the library returned.
    ///
    /// # Safety
    /// `ptr` is null or a value that nobody else frees.
    pub(super) unsafe fn from_raw(api: Api, ptr: *mut OrtValue) -> ort::Result<Self> {
        let ptr = NonNull::new(ptr).ok_or_else(|| ort::Error::new("a value is missing"))?;
        Ok(Self { api, ptr, borrowed: PhantomData })
    }

    pub(super) const fn as_ptr(&self) -> *const OrtValue {
        self.ptr.as_ptr()
    }

    /// A value over a tensor's elements.
    pub(super) fn borrow(api: Api, memory: &CpuMemory, tensor: &'a Tensor) -> ort::Result<Self> {
        let shape = tensor.shape().iter().map(|&size| i64::try_from(size));
        let shape = shape.collect::<Result<Vec<_>, _>>().map_err(ort::Error::wrap)?;
        match tensor.data() {
            Data::Bool(v) => Self::numbers(api, memory, &shape, v, Datatype::Bool),
            Data::Uint8(v) => Self::numbers(api, memory, &shape, v, Datatype::Uint8),
            Data::Uint16(v) => Self::numbers(api, memory, &shape, v, Datatype::Uint16),
            Data::Uint32(v) => Self::numbers(api, memory, &shape, v, Datatype::Uint32),
            Data::Uint64(v) => Self::numbers(api, memory, &shape, v, Datatype::Uint64),
            Data::Int8(v) => Self::numbers(api, memory, &shape, v, Datatype::Int8),
            Data::Int16(v) => Self::numbers(api, memory, &shape, v, Datatype::Int16),
            Data::Int32(v) => Self::numbers(api, memory, &shape, v, Datatype::Int32),
            Data::Int64(v) => Self::numbers(api, memory, &shape, v, Datatype::Int64),
            Data::Fp16(v) => Self::numbers(api, memory, &shape, v, Datatype::Fp16),
            Data::Fp32(v) => Self::numbers(api, memory, &shape, v, Datatype::Fp32),
            Data::Fp64(v) => Self::numbers(api, memory, &shape, v, Datatype::Fp64),
            Data::Bytes(v) => Self::strings(api, &shape, v),
        }
    }

    fn numbers<T>(
        api: Api,
        memory: &CpuMemory,
        shape: &[i64],
        elements: &'a [T],
        datatype: Datatype,
    ) -> ort::Result<Self> {
        let mut value = ptr::null_mut();
        let buffer = elements.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the buffer has that many bytes of that type, and outlives
        // the value by its lifetime. It is not written to: graph inputs are
        // constant to the library, which never runs an operator in place on
        // one. Shape and memory live for the length of the call.
        unsafe {
            check((api.CreateTensorWithDataAsOrtValue)(
                memory.ptr.as_ptr(),
                buffer,
                size_of_val(elements),
                shape.as_ptr(),
                shape.len(),
                element_type(datatype),
                &raw mut value,
            ))?;
            Self::from_raw(api, value)
        }
    }

    fn strings(api: Api, shape: &[i64], elements: &[Vec<u8>]) -> ort::Result<Self> {
        let (mut allocator, mut value) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the default allocator belongs to the library and stays; the
        // shape lives for the length of the call; the value is new and ours.
        let value = unsafe {
            check((api.GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
            check((api.CreateTensorAsOrtValue)(
                allocator,
                shape.as_ptr(),
                shape.len(),
                element_type(Datatype::Bytes),
                &raw mut value,
            ))?;
            Self::from_raw(api, value)?
        };
        for (i, bytes) in elements.iter().enumerate() {
            let mut buffer: *mut c_char = ptr::null_mut();
            // SAFETY: the value is a string tensor of that shape, so it has an
            // element `i`; the library makes room for exactly these bytes.
            unsafe {
                let into = &raw mut buffer;
                let value = value.ptr.as_ptr();
                check((api.GetResizedStringTensorElementBuffer)(value, i, bytes.len(), into))?;
                if !bytes.is_empty() {
                    ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len());
                }
            }
        }
        Ok(value)
    }

    /// Copies a tensor out, as the datatype that it must have.
    pub(super) fn to_tensor(&self, name: &str, datatype: Datatype) -> ort::Result<Tensor> {
        let (found, shape) = self.form()?;
        if found != element_type(datatype) as i32 {
            let message = format!("output {name:?}: expected {datatype}, got element type {found}");
            return Err(ort::Error::new(message));
        }
        let len = element_count(&shape).ok_or_else(|| ort::Error::new("an impossible shape"))?;
        let data = match datatype {
            // A byte that is neither 0 nor 1 must not become a `bool`.
            Datatype::Bool => Data::Bool(self.copy::<u8>(len)?.iter().map(|b| *b != 0).collect()),
            Datatype::Uint8 => Data::Uint8(self.copy(len)?),
            Datatype::Uint16 => Data::Uint16(self.copy(len)?),
            Datatype::Uint32 => Data::Uint32(self.copy(len)?),
            Datatype::Uint64 => Data::Uint64(self.copy(len)?),
            Datatype::Int8 => Data::Int8(self.copy(len)?),
            Datatype::Int16 => Data::Int16(self.copy(len)?),
            Datatype::Int32 => Data::Int32(self.copy(len)?),
            Datatype::Int64 => Data::Int64(self.copy(len)?),
            Datatype::Fp16 => Data::Fp16(self.copy(len)?),
            Datatype::Fp32 => Data::Fp32(self.copy(len)?),
            Datatype::Fp64 => Data::Fp64(self.copy(len)?),
            Datatype::Bytes => Data::Bytes(self.copy_strings(len)?),
        };
        Tensor::new(name, shape, data).map_err(|error| ort::Error::new(error.message()))
    }

    /// Its element type, as the library's number, and its shape. An error if
    /// it is no tensor.
    fn form(&self) -> ort::Result<(i32, Vec<usize>)> {
        let mut form: *mut OrtTensorTypeAndShapeInfo = ptr::null_mut();
        // SAFETY: the value lives; the description is ours to free.
        unsafe { check((self.api.GetTensorTypeAndShape)(self.as_ptr(), &raw mut form)) }?;
        let (mut datatype, mut rank) = (0_i32, 0_usize);
        let mut shape = Vec::new();
        // SAFETY: the description lives until it is released below. The type
        // is read as a number: a newer library may know more types than the
        // enum does, which has an `i32`'s layout. `shape` has `rank` places.
        let read = unsafe {
            check((self.api.GetTensorElementType)(form, (&raw mut datatype).cast()))
                .and_then(|()| check((self.api.GetDimensionsCount)(form, &raw mut rank)))
                .and_then(|()| {
                    shape.resize(rank, 0_i64);
                    check((self.api.GetDimensions)(form, shape.as_mut_ptr(), rank))
                })
        };
        // SAFETY: it is ours, and not used after this.
        unsafe { (self.api.ReleaseTensorTypeAndShapeInfo)(form) };
        read?;
        let shape = shape.into_iter().map(usize::try_from).collect::<Result<_, _>>();
        Ok((datatype, shape.map_err(ort::Error::wrap)?))
    }

    /// Copies `len` elements. Called with the type that [`Self::form`] told.
    fn copy<T: Element>(&self, len: usize) -> ort::Result<Vec<T>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let mut elements: *mut c_void = ptr::null_mut();
        // SAFETY: the value is a tensor in this machine's memory, of `len`
        // elements of `T`'s layout, aligned by the library; any bytes are a
        // `T`. It is not changed while it is read: it is ours alone.
        unsafe {
            check((self.api.GetTensorMutableData)(self.ptr.as_ptr(), &raw mut elements))?;
            if elements.is_null() {
                return Err(ort::Error::new("a tensor without data"));
            }
            Ok(std::slice::from_raw_parts(elements.cast::<T>(), len).to_vec())
        }
    }

    fn copy_strings(&self, len: usize) -> ort::Result<Vec<Vec<u8>>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let (mut size, mut offsets) = (0, vec![0_usize; len]);
        // SAFETY: the value is a string tensor of `len` elements.
        unsafe { check((self.api.GetStringTensorDataLength)(self.as_ptr(), &raw mut size)) }?;
        let mut bytes = vec![0_u8; size];
        // SAFETY: `bytes` has the size that the library asked for, and
        // `offsets` one place per element.
        unsafe {
            let into = bytes.as_mut_ptr().cast();
            let starts = offsets.as_mut_ptr();
            check((self.api.GetStringTensorContent)(self.as_ptr(), into, size, starts, len))?;
        }
        let ends = offsets[1..].iter().copied().chain([size]);
        let texts = offsets.iter().zip(ends).map(|(&start, end)| bytes.get(start..end));
        let texts = texts.map(|text| text.map(<[u8]>::to_vec)).collect::<Option<_>>();
        texts.ok_or_else(|| ort::Error::new("a string tensor whose parts do not fit together"))
    }
}

/// A plain number: any bytes of its size are one.
trait Element: Copy {}
impl Element for u8 {}
impl Element for u16 {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for i8 {}
impl Element for i16 {}
impl Element for i32 {}
impl Element for i64 {}
impl Element for f16 {}
impl Element for f32 {}
impl Element for f64 {}

/// The library's description of this machine's memory.
pub(super) struct CpuMemory {
    api: Api,
    ptr: NonNull<OrtMemoryInfo>,
}

// SAFETY: a constant description; the library only reads it.
unsafe impl Send for CpuMemory {}
// SAFETY: as above.
unsafe impl Sync for CpuMemory {}

impl CpuMemory {
    pub(super) fn new(api: Api) -> ort::Result<Self> {
        let mut ptr = ptr::null_mut();
        let (kind, place) = (OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault);
        // SAFETY: the result is new and ours.
        unsafe { check((api.CreateCpuMemoryInfo)(kind, place, &raw mut ptr)) }?;
        let ptr = NonNull::new(ptr).ok_or_else(|| ort::Error::new("no memory description"))?;
        Ok(Self { api, ptr })
    }
}

impl Drop for CpuMemory {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { (self.api.ReleaseMemoryInfo)(self.ptr.as_ptr()) };
    }
}

/// The library's name of a datatype.
const fn element_type(datatype: Datatype) -> ONNXTensorElementDataType {
    use ONNXTensorElementDataType as T;
    match datatype {
        Datatype::Bool => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        Datatype::Uint8 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        Datatype::Uint16 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        Datatype::Uint32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        Datatype::Uint64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        Datatype::Int8 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        Datatype::Int16 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        Datatype::Int32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        Datatype::Int64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        Datatype::Fp16 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        Datatype::Fp32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        Datatype::Fp64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        Datatype::Bytes => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}
