"""Great Expectations on pandas: `with_gx.py FOLDER ROWS`, one line of JSON.

The columns are Arrow's own (`dtype_backend="pyarrow"` was slower here and is not used), the result format is the least that counts
(`BASIC`), and no checkpoint, store or data doc is made. Rows beyond ROWS are not read.
"""

import json
import logging
import os
import sys
import time
import warnings

os.environ["GX_ANALYTICS_ENABLED"] = "false"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import great_expectations as gx  # noqa: E402
import great_expectations.expectations as gxe  # noqa: E402
import pyarrow.dataset as ds  # noqa: E402

from checks import CHECKS  # noqa: E402


def expectation(kind, how):
    column = how.get("column")
    if kind == "not_null":
        return gxe.ExpectColumnValuesToNotBeNull(column=column)
    if kind == "unique":
        return gxe.ExpectColumnValuesToBeUnique(column=column)
    if kind == "range":
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=how["min"], max_value=how["max"])
    if kind == "set":
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=how["values"])
    if kind == "pattern":
        return gxe.ExpectColumnValuesToMatchRegex(column=column, regex=how["regex"])
    if kind == "length":
        return gxe.ExpectColumnValueLengthsToBeBetween(column=column, min_value=how["min"], max_value=how["max"])
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=how["upper"], column_B=how["lower"], or_equal=True, ignore_row_if="either_value_is_missing"
    )


def main(folder, rows):
    context = gx.get_context(mode="ephemeral")
    if hasattr(context, "variables"):
        context.variables.progress_bars = {"globally": False}
    start = time.perf_counter()
    frame = ds.dataset(folder, format="parquet", exclude_invalid_files=False).head(int(rows)).to_pandas()
    read = time.perf_counter() - start
    batch = (
        context.data_sources.add_pandas("p")
        .add_dataframe_asset("a")
        .add_batch_definition_whole_dataframe("b")
        .get_batch({"dataframe": frame})
    )
    suite = gx.ExpectationSuite("s", expectations=[expectation(kind, how) for _, kind, how in CHECKS])
    result = batch.validate(suite, result_format="BASIC")
    # Results come in an order of their own: told apart by type and columns.
    def key(of, how):
        return of, how.get("column"), how.get("column_A"), how.get("column_B")

    names = {}
    for name, kind, how in CHECKS:
        config = expectation(kind, how).configuration
        names[key(config.type, config.kwargs)] = name
    found = {}
    for one in result.results:
        config = one.expectation_config
        found[names[key(config.type, config.kwargs)]] = one.result["unexpected_count"]
    print(json.dumps({"seconds": time.perf_counter() - start, "read": read, "rows": len(frame), "failed": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
