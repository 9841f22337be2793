-- What is known of a flight before it departs, and what is to be predicted.
select scheduled, carrier, flight, origin, dest, distance, arr_delay, landed
from flights
