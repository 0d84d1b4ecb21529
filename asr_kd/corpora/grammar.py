"""The sentences of the embedded corpus: spoken requests to an assistant, from a context-free grammar of plain words.

`{symbol}` is expanded by a uniformly drawn alternative of that symbol; a comma is a place where the speaker may pause.
"""

import re
from collections.abc import Iterator

import numpy as np

MIN_WORDS, MAX_WORDS = 3, 12

PHRASES: dict[str, str] = {
    "sentence": """{alarm} | {calendar} | {message} | {message} | {call} | {weather} | {navigation}
        | {navigation} | {media} | {media} | {shopping} | {price} | {spelling} | {home} | {fact} | {search}
        | {search} | {travel} | {note} | {sport}""",
    "alarm": """set an alarm for {time} | wake me up at {time} {day} | set a timer for {number} minutes
        | cancel my {ordinal} alarm | remind me to {task} at {time} | remind me to {task}, {day}
        | how much time is left on the {food} timer | snooze for {number} more minutes""",
    "calendar": """add {event} with {name} on {date} | move my {event} from {weekday} to {weekday}
        | what is on my calendar {day} | am i free {day} at {time} | schedule {event}, {date} at {time}
        | cancel {event} with {person} | when is my next {event} | invite {name} and {name} to the {event}""",
    "message": """tell {name} that {clause} | send a message to {person} saying {clause}
        | text {name}, {clause} | write an email to {person} about the {thing} | reply {clause}
        | ask {name} if {clause} | read my last message from {person}
        | forward the {adjective} {thing} to {name}""",
    "call": """call {person} | call {name} at {place}
        | dial {digit} {digit} {digit}, {digit} {digit} {digit} {digit} | phone the {business} in {city}
        | video call {person} {day} | redial the last number, please | leave a voice mail for {person}""",
    "weather": """what is the weather like in {city} | will it {falls} in {city} {day}
        | how {feels} is it going to be {day} | do i need {garment} {day}
        | what is the forecast for {month} in {country} | is there a chance of {phenomenon} {day}
        | how many degrees is it in {city} right now""",
    "navigation": """take me to {street} in {city} | navigate to the nearest {business}
        | how far is it from {city} to {city} | find a {business} near {street}
        | show me the fastest way to {place} | avoid {hazard} on the way to {city}
        | turn {side} at the {landmark}, then go straight
        | how long will it take to reach {place} by {vehicle} | is there parking near the {landmark}
        | directions to {number} {street}""",
    "media": """play {adjective} {genre} music | play {title} by {artist} | skip this {item}
        | turn the volume {direction} | play the latest episode of {title} | who sings {title}
        | add this song to my {adjective} playlist | show me {adjective} {film} movies from {year}
        | watch {title} on {channel} | pause the {item}, please | play the {instrument} concert by {artist}
        | find a book called {title}""",
    "shopping": """add {food} and {food} to my shopping list | order {number} {adjective} {garments}
        | buy {quantity} of {food} | remove {food} from the list | where can i get {adjective} {food}
        | reorder the {colour} {thing} from {month} | find {garments} in {colour}, size {number}""",
    "price": """how much is {quantity} of {food} | what does a {colour} {thing} cost
        | convert {number} {currency} to {currency} | pay {name} {number} {currency} for the {thing}
        | is {number} {currency} a fair price for a {thing}
        | find a {thing} for less than {hundreds} {currency}""",
    "spelling": """spell {letter} {letter} {letter} {letter} | my code is {letter} {digit} {letter} {digit}
        | the name is {surname}, {letter} {letter} {letter} {letter}
        | flight {letter} {letter} {digit} {digit} {digit} | room {letter} {digit} {digit}
        | how do you spell {animal}""",
    "home": """turn {onoff} the {device} in the {room} | set the {room} to {number} degrees
        | dim the {room} lights to {number} | lock the {room} door | is the {device} still running
        | open the {colour} curtains at {time} | make the {device} in the {room} {colour}""",
    "fact": """how tall is the {landmark} in {city} | what is the capital of {country} | how old is {artist}
        | what is {number} times {number} | how many people live in {country} | what do {animals} eat
        | who discovered {science} | when was {artist} born | what does a {animal} sound like
        | explain {science} in {number} words""",
    "search": """search for {adjective} {animals} | pictures of {adjective} {animals} in {country}
        | recipe for {food} with {food} | {adjective} hotels in {city} | {business} in {city} open {day}
        | how to {task} | history of {science} | reviews of the {adjective} {thing}
        | news about {science} from {country} | {colour} {garments} on sale""",
    "travel": """book a flight from {city} to {city} | find a train to {city} on {date}
        | {number} tickets to {country}, please | reserve a table for {number} at {time}
        | when does the {vehicle} to {city} leave | is the flight to {city} delayed
        | rent a {vehicle} in {country} for {number} days""",
    "note": """make a note that {clause} | take a note, {clause}
        | write down {surname} {digit} {digit} {digit} | add {task} to my list for {day}
        | start a list called {title}""",
    "sport": """did {city} win against {city} {day} | what is the score of the {sport} game
        | when is the next {sport} match | who plays {sport} for {country}
        | show the {sport} results from {weekday}""",
    "clause": """i will be late for {event} | the {thing} is {adjective} | we need more {food}
        | {name} lost the {thing} | i love the {colour} {garments} | we are at {place} | dinner is at {time}
        | the {vehicle} is late again | {name} wants to {task} | see you {day}
        | happy birthday from {name} and {name} | the {animal} is in the {room} | bring your {thing} {day}
        | sorry, i forgot the {thing}""",
    "person": "{name} | {name} {surname} | {name} {surname} | my {relative} | doctor {surname}",
    "time": """{hour} o'clock | {hour} {minute} | {hour} {minute} in the {daytime} | half past {hour}
        | quarter to {hour} | noon | midnight | {hour} this {daytime}""",
    "day": """today | tomorrow | tonight | on {weekday} | this {weekday} | next {weekday} | next week
        | this {daytime}""",
    "date": "{month} {ordinal} | the {ordinal} of {month} | {weekday}, {month} {ordinal}",
    "number": "{small} | {teen} | {tens} | {tens} {small}",
    "hundreds": "{small} hundred | {small} thousand | {small} hundred {tens}",
    "year": "nineteen {tens} {small} | two thousand {small} | twenty {teen}",
    "minute": "oh five | ten | fifteen | twenty | {tens} five | thirty | forty",
    "street": "{streetname} street | {streetname} avenue | {streetname} road | {ordinal} street",
    "place": "the {business} | the {landmark} | {street} | {city} | work | school | home",
    "title": """the {colour} {animal} | {adjective} {science} | {month} {phenomenon}
        | {animals} and {animals} | the {adjective} {landmark}""",
    "quantity": "a bottle | a box | {small} pounds | a dozen bags | half a pound | {small} cans",
    "task": """water the {plant} | feed the {animal} | fix the {device} | clean the {room}
        | call {name} back | buy {food} | return the {thing} | cook {food} | pick up the {thing}
        | paint the {room} {colour} | practice the {instrument}""",
    "streetname": "{surname} | {plant} | {city} | {landmark}",
}

WORDS: dict[str, str] = {
    "name": """adam alice amy andrew anna arthur barbara betty brian bruce carla carol catherine charlie
        chris daniel debbie diana donald edward elena emily eric eva frank fred gary george gloria grace
        hannah harold helen henry irene jack jacob jane jason jeff jennifer jessica joan joseph joyce judy
        julia karen keith kenneth kevin laura leo linda lisa louis lucy maria martin matthew megan michael
        molly nancy nathan nicole oliver olivia oscar pamela patrick paul peter philip rachel ralph
        rebecca robert ronald rosa ruth sally samuel sandra sarah simon sophia stephen susan teresa thomas
        timothy tony vera victor vincent walter wendy william""",
    "surname": """anderson baker bennett campbell carter coleman collins cooper crawford davis dixon
        edwards evans fisher foster gibson gonzalez graham griffin hamilton harrison henderson hughes
        jackson jenkins johnson kelly lawson lopez marshall mcdonald miller mitchell morgan murphy nelson
        newman parker patterson peterson phillips powell ramirez reynolds richardson roberts robinson
        rodriguez russell sanders schmidt simmons stevens sullivan thompson turner wagner wallace watson
        williams wright""",
    "city": """amsterdam athens atlanta baltimore barcelona berlin boston brussels budapest buffalo cairo
        calgary chicago cincinnati cleveland columbus copenhagen dallas delhi denver detroit dublin
        edinburgh florence geneva hamburg havana helsinki houston istanbul jerusalem kansas lisbon
        liverpool london madrid manchester melbourne memphis miami milan milwaukee minneapolis montreal
        moscow munich nairobi naples nashville orlando oslo oxford paris philadelphia phoenix pittsburgh
        portland prague richmond rome sacramento seattle shanghai singapore stockholm sydney tokyo toronto
        tucson vancouver venice vienna warsaw washington zurich""",
    "country": """argentina australia austria belgium brazil bulgaria canada chile china colombia cuba
        denmark egypt england finland france germany greece hungary iceland india indonesia ireland israel
        italy jamaica japan kenya korea mexico morocco nepal norway pakistan peru poland portugal romania
        russia scotland spain sweden switzerland thailand turkey ukraine vietnam wales""",
    "month": "january february march april may june july august september october november december",
    "weekday": "monday tuesday wednesday thursday friday saturday sunday",
    "daytime": "morning afternoon evening",
    "hour": "one two three four five six seven eight nine ten eleven twelve",
    "small": "two three four five six seven eight nine",
    "teen": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "digit": "zero one two three four five six seven eight nine",
    "ordinal": """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
        thirteenth fifteenth eighteenth twentieth""",
    "letter": "b c d e f g h i j k l m n o p q r s t u v x y z",
    "relative": """mother father sister brother aunt uncle cousin boss dentist neighbor wife husband
        daughter son teacher lawyer""",
    "event": """meeting lunch dinner breakfast appointment interview wedding party practice rehearsal
        conference workshop holiday class""",
    "business": """bakery bank pharmacy restaurant hospital library museum garage supermarket theater hotel
        bookstore florist laundry gym cafe cinema butcher barber dentist zoo""",
    "landmark": """bridge castle cathedral church fountain harbor lighthouse market palace park stadium
        station temple tower university""",
    "hazard": "traffic tolls highways ferries tunnels construction",
    "side": "left right",
    "vehicle": "bus train car taxi bicycle ferry plane tram truck motorcycle",
    "falls": "rain snow hail freeze thunder",
    "feels": "warm cold hot humid windy cloudy",
    "phenomenon": "rain snow fog frost lightning sunshine wind storms clouds thunder",
    "garment": "umbrella jacket sweater scarf sunglasses boots gloves",
    "garments": """shirts jeans socks shoes boots sweaters gloves hats jackets dresses skirts towels
        sandals pajamas""",
    "colour": "red blue green yellow purple orange black white brown gray pink silver golden",
    "adjective": """ancient beautiful big boring broken cheap classic clever crazy dangerous delicious
        empty expensive famous fancy favorite fresh funny gentle giant heavy honest huge little lonely
        loud lucky modern mysterious new noisy old perfect popular quiet romantic secret serious silent
        simple slow small strange strong sweet terrible tiny useful vintage wild wonderful young""",
    "genre": "jazz rock folk classical country blues techno disco reggae gospel punk latin soul opera",
    "item": "song track video movie podcast chapter playlist",
    "direction": "up down off",
    "film": "action comedy horror cartoon western mystery adventure documentary",
    "channel": "television netflix youtube cable",
    "instrument": "piano guitar violin trumpet flute cello saxophone organ harp drum clarinet banjo",
    "artist": """beethoven mozart chopin madonna elvis prince shakespeare picasso rembrandt einstein newton
        darwin galileo lincoln napoleon cleopatra tolstoy hemingway chaplin hitchcock""",
    "food": """apples bananas bread butter cabbage carrots cereal cheese cherries chicken chocolate coffee
        cookies corn cream eggs fish flour garlic ginger grapes ham honey ketchup lemons lettuce milk
        mushrooms mustard noodles oatmeal olives onions oranges pancakes pasta peaches peanuts pepper
        pickles pineapple pizza potatoes pumpkin rice salad salmon salt sausage shrimp soup spinach steak
        strawberries sugar tea tomatoes tuna vanilla vinegar yogurt""",
    "thing": """backpack battery blanket bottle calendar camera carpet charger clock computer contract
        document guitar hammer headphones invoice keyboard key ladder lamp laptop letter magazine map
        mirror newspaper package passport pencil phone picture pillow printer puzzle receipt report
        scissors suitcase table telescope ticket umbrella wallet watch window""",
    "currency": "dollars euros pounds pesos cents",
    "animal": """alligator bear butterfly camel cat chicken cow crocodile dog dolphin donkey eagle elephant
        fox frog giraffe goat hamster horse kangaroo leopard lion lizard monkey mouse octopus owl panda
        parrot penguin pig rabbit raccoon shark sheep snake spider squirrel tiger turtle whale wolf zebra""",
    "animals": """bears butterflies camels cats cows dogs dolphins eagles elephants frogs giraffes horses
        kangaroos lions monkeys owls penguins rabbits sharks snakes spiders tigers turtles whales wolves""",
    "onoff": "on off",
    "device": """lights heater fan oven dishwasher radio television camera vacuum sprinkler thermostat
        speaker humidifier""",
    "room": "kitchen bedroom bathroom basement garage garden hallway attic office nursery balcony",
    "plant": "roses cactus tulips orchid fern lavender maple cedar walnut willow oak",
    "science": """gravity electricity oxygen penicillin evolution magnets dinosaurs volcanoes planets
        comets vitamins robots satellites geometry chemistry democracy""",
    "sport": "football baseball basketball hockey tennis soccer golf cricket rugby volleyball",
}

RULES: dict[str, tuple[str, ...]] = {
    **{symbol: tuple(" ".join(part.split()) for part in text.split("|")) for symbol, text in PHRASES.items()},
    **{symbol: tuple(text.split()) for symbol, text in WORDS.items()},
}


def vocabulary() -> set[str]:
    """Every word that a sentence can contain."""
    text = " ".join(alternative for alternatives in RULES.values() for alternative in alternatives)
    return set(re.sub(r"\{\w+\}|,", " ", text).split())


def sentences(generator: np.random.Generator) -> Iterator[str]:
    """An endless stream of sentences of 3 to 12 words; commas mark where a speaker may pause."""
    while True:
        text = _expand("sentence", generator)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            yield text


def _expand(symbol: str, generator: np.random.Generator) -> str:
    alternatives = RULES[symbol]
    chosen = alternatives[int(generator.integers(len(alternatives)))]
    return re.sub(r"\{(\w+)\}", lambda match: _expand(match[1], generator), chosen)
