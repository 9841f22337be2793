-- A flight with the instants that its local times and durations mean. `time_hour` is the hour it was to depart in, in UTC.
with timed as (
  select
    arrow_cast(arrow_cast(time_hour, 'Int64') + minute * 60000000, 'Timestamp(Microsecond, Some("UTC"))') as scheduled,
    *
  from flight_rows
)
select
  scheduled,
  carrier,
  flight,
  origin,
  dest,
  tailnum,
  distance,
  dep_delay,
  arr_delay,
  air_time,
  -- When the delay of the arrival was known: after the delay of the departure, the time in the air and half an hour of taxiing.
  -- Null for a flight that was cancelled.
  arrow_cast(
    arrow_cast(scheduled, 'Int64') + cast((dep_delay + air_time + 30) * 60000000 as bigint),
    'Timestamp(Microsecond, Some("UTC"))'
  ) as landed
from timed
