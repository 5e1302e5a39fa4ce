/* Where an area lies. For the boot stage, which says how many pages a slot has (SLOT_PAGES) and
 * draws 64 random bits. */
#ifndef AREAS_H
#define AREAS_H

static u64 draw(void);

/* splitmix64: a counter, mixed. */
static u64 mixed(u64 value) {
    value += 0x9e3779b97f4a7c15UL;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9UL;
    value = (value ^ value >> 27) * 0x94d049bb133111ebUL;
    return value ^ value >> 31;
}

/* The address of an area: the start of its slot, or with RANDOM any page from which it fits. */
static u64 place(u64 slot, u64 size) {
    u64 page = 0;
    if (RANDOM)
        do
            page = draw() % SLOT_PAGES;
        while (page + size / PAGE > SLOT_PAGES);
    return (slot * SLOT_PAGES + page) * PAGE;
}

#endif
