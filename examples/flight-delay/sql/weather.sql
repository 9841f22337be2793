-- The weather of an hour is known when the hour is over.
select
  origin,
  time_hour as hour,
  arrow_cast(arrow_cast(time_hour, 'Int64') + 3600000000, 'Timestamp(Microsecond, Some("UTC"))') as received,
  temp,
  wind_speed,
  precip,
  visib,
  pressure
from weather_rows
