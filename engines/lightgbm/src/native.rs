//! LightGBM's C interface, as values that free what they hold. The only place with `unsafe`.
//!
//! Every pointer that is handed over lives for the call alone; LightGBM copies what it keeps. Errors are the library's own words.
#![expect(unsafe_code, reason = "a C interface")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write as _;
use std::ptr;

use lightgbm3_sys as sys;

use crate::error::Error;
use crate::table::Rows;

/// What the call says, or what went wrong.
fn checked(code: c_int) -> Result<(), Error> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the library gives a text that ends with a zero and stays until the next failure of this thread.
    let text = unsafe { CStr::from_ptr(sys::LGBM_GetLastError()) };
    Err(Error::Native(text.to_string_lossy().into_owned()))
}

fn text(text: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Broken("a zero in a text".to_owned()))
}

fn int(n: usize) -> Result<i32, Error> {
    i32::try_from(n).map_err(|_| Error::Broken("more than 2^31 of something".to_owned()))
}

/// Writes what the library says to stderr: stdout is the protocol's.
pub(crate) fn log_to_stderr() -> Result<(), Error> {
    unsafe extern "C" fn log(message: *const c_char) {
        if message.is_null() {
            return;
        }
        // SAFETY: the library gives a text that ends with a zero and lives for this call.
        let message = unsafe { CStr::from_ptr(message) };
        let _ = std::io::stderr().write_all(message.to_bytes());
    }
    // SAFETY: the function is there as long as the program.
    checked(unsafe { sys::LGBM_RegisterLogCallback(Some(log)) })
}

/// Rows, binned.
pub(crate) struct Dataset(sys::DatasetHandle);

impl Dataset {
    /// Bins rows: by their own values, or as `like` was.
    pub(crate) fn of(
        rows: &Rows,
        features: usize,
        params: &str,
        like: Option<&Dataset>,
    ) -> Result<Dataset, Error> {
        let params = text(params)?;
        if rows.values.len() != rows.count.saturating_mul(features) || rows.count == 0 {
            return Err(Error::Broken("no rows".to_owned()));
        }
        let mut handle = ptr::null_mut();
        // SAFETY: `values` holds `count × features` doubles, row after row, which was checked; the reference is null or alive.
        checked(unsafe {
            sys::LGBM_DatasetCreateFromMat(
                rows.values.as_ptr().cast::<c_void>(),
                sys::C_API_DTYPE_FLOAT64.cast_signed(),
                int(rows.count)?,
                int(features)?,
                1,
                params.as_ptr(),
                like.map_or(ptr::null_mut(), |like| like.0),
                &raw mut handle,
            )
        })?;
        let dataset = Dataset(handle);
        dataset.field("label", &rows.label)?;
        if let Some(weights) = &rows.weights {
            dataset.field("weight", weights)?;
        }
        Ok(dataset)
    }

    fn field(&self, name: &str, values: &[f32]) -> Result<(), Error> {
        let name = text(name)?;
        // SAFETY: the pointer is to as many 32-bit numbers as are said.
        checked(unsafe {
            sys::LGBM_DatasetSetField(
                self.0,
                name.as_ptr(),
                values.as_ptr().cast::<c_void>(),
                int(values.len())?,
                sys::C_API_DTYPE_FLOAT32.cast_signed(),
            )
        })
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        // SAFETY: it came from the library and is freed once.
        unsafe { sys::LGBM_DatasetFree(self.0) };
    }
}

/// Trees that grow on a dataset, which lives as long.
pub(crate) struct Booster<'a> {
    handle: sys::BoosterHandle,
    _data: std::marker::PhantomData<&'a Dataset>,
}

impl<'a> Booster<'a> {
    /// No tree yet.
    pub(crate) fn on(
        train: &'a Dataset,
        valid: Option<&'a Dataset>,
        params: &str,
    ) -> Result<Booster<'a>, Error> {
        let params = text(params)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the dataset is alive, and outlives the booster by the lifetime.
        checked(unsafe { sys::LGBM_BoosterCreate(train.0, params.as_ptr(), &raw mut handle) })?;
        let booster = Booster { handle, _data: std::marker::PhantomData };
        if let Some(valid) = valid {
            // SAFETY: as above.
            checked(unsafe { sys::LGBM_BoosterAddValidData(booster.handle, valid.0) })?;
        }
        Ok(booster)
    }

    /// One more round; `false` when no tree can be grown any more.
    pub(crate) fn round(&mut self) -> Result<bool, Error> {
        let mut finished = 0;
        // SAFETY: the handle is alive, the integer is written once.
        checked(unsafe { sys::LGBM_BoosterUpdateOneIter(self.handle, &raw mut finished) })?;
        Ok(finished == 0)
    }

    /// The first metric on the validation rows.
    pub(crate) fn metric(&self) -> Result<Option<f64>, Error> {
        let mut count = 0;
        // SAFETY: the handle is alive.
        checked(unsafe { sys::LGBM_BoosterGetEvalCounts(self.handle, &raw mut count) })?;
        let mut values = vec![0.0; usize::try_from(count).unwrap_or(0).max(1)];
        // SAFETY: there is room for as many as the library says that there are.
        checked(unsafe { sys::LGBM_BoosterGetEval(self.handle, 1, &raw mut count, values.as_mut_ptr()) })?;
        Ok(values.first().copied().filter(|_| count > 0))
    }

    /// The model of the first `rounds`, as text.
    pub(crate) fn text(&self, rounds: u32) -> Result<Vec<u8>, Error> {
        let rounds = int(rounds as usize)?;
        let gain = sys::C_API_FEATURE_IMPORTANCE_GAIN.cast_signed();
        let mut bytes: Vec<u8> = vec![0; 1 << 20];
        loop {
            let mut needed = 0_i64;
            let room = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            // SAFETY: the buffer has as many bytes as are said; the library writes no more.
            checked(unsafe {
                sys::LGBM_BoosterSaveModelToString(
                    self.handle,
                    0,
                    rounds,
                    gain,
                    room,
                    &raw mut needed,
                    bytes.as_mut_ptr().cast::<c_char>(),
                )
            })?;
            let needed = usize::try_from(needed).unwrap_or(0);
            if needed <= bytes.len() {
                // The last byte is the zero that ends it.
                bytes.truncate(needed.saturating_sub(1));
                return Ok(bytes);
            }
            bytes.clear();
            bytes.try_reserve_exact(needed).map_err(|_| Error::Memory("the model"))?;
            bytes.resize(needed, 0);
        }
    }
}

impl Drop for Booster<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from the library and is freed once.
        unsafe { sys::LGBM_BoosterFree(self.handle) };
    }
}
