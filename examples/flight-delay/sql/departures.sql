-- What is known of a flight before it departs, and whether it came more than a quarter of an hour late. Times are in UTC: New York is
-- five hours behind in winter.
select
  scheduled,
  cast(date_part('hour', scheduled) as int) as hour,
  cast(date_part('dow', scheduled) as int) as weekday,
  carrier,
  origin,
  dest,
  distance,
  case when arr_delay > 15 then 1 when arr_delay is not null then 0 end as late,
  landed
from flights
