"""A long document with sections, names and numbers, the same in every run."""

# Stands in every document; the other names a man whom none of them knows.
TRUE = "In the year 1900 the council of Oslo counted 0 houses and 0 mills."
INVENTED = "The mayor Zebulon Quirk objected in 1234."

CITIES = ["Oslo", "Lima", "Accra", "Hanoi", "Quito", "Turin", "Perth", "Kyoto"]


def long(sections=60):
    parts = []
    for s in range(sections):
        parts.append(f"## Section {s + 1}: {CITIES[s % len(CITIES)]}\n")
        for n in range(12):
            city, other = CITIES[(s + n) % len(CITIES)], CITIES[(s * 3 + n) % len(CITIES)]
            parts.append(
                f"In the year {1900 + s} the council of {city} counted {1000 * s + n} houses and {37 * n + s} mills. "
                f"The harbour of {other} was rebuilt at a cost of {s * 13 + n} thousand crowns by the engineer "
                f"Margrethe Holm."
            )
        parts.append("")
    return "\n".join(parts)
