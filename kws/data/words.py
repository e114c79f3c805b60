"""The project's own list of common English words by kind; nothing here was copied from another list."""

from __future__ import annotations

_LISTS = {
    "noun": """
        animal answer apple arm artist aunt baby bag ball banana bank basket bath beach bear bed bell bicycle
        bird blanket boat body bone book bottle bowl box boy branch bread breakfast brick bridge brother
        bucket building bus butter button cable cake camera candle captain car card carpet carrot castle cat
        ceiling chair chicken child chocolate circle clock cloth cloud coat coffee coin color comb company
        concert cookie corner cousin cow crowd cup curtain customer dance daughter day dentist desk dinner
        doctor dog dollar door dragon drawer dream dress driver duck dust ear earth egg elbow elephant engine
        evening eye face family farmer father feather fence finger fire fish flag floor flower fly foot forest
        fork fox friend frog fruit future game garage gift girl glass glove goat gold grass guitar hair hammer
        hand hat head heart hill history holiday honey horse hour idea insect island jacket jar juice kettle
        key kid king kitten knee knife ladder lake lamp lawyer leaf lemon lesson letter library light line
        lion list machine map market meal meat meeting message metal milk minute mirror money monkey moon
        morning mother mountain mouse mouth movie music nail name neck neighbor nephew newspaper night noise
        nose note notebook number nurse ocean office oil onion orange oven owl page paint pair pan paper
        parcel parent park party path pencil pepper person phone photo piano picture pie piece pig pillow
        pilot plan plane planet plate player pocket poem potato present price prince problem program puppy
        purse puzzle queen question rabbit radio rain recipe reason restaurant rice ring river road robot rock
        roof rope rose rule sailor salad salt sand sandwich scarf school scissors screen sea season secret
        seed shadow sheep shelf ship shirt shoe shop shoulder shower sign silver singer sister skirt sky smoke
        snake snow soap sock sofa soldier song sound soup spider spoon square stairs star station stone storm
        story stove stranger street student sugar suit summer sun sweater table tail tax tea teacher team
        television tent thing thumb thunder ticket tiger tire tomato tongue tool tooth towel tower town toy
        tractor train tree trip truck turtle umbrella uncle valley vegetable village violin visitor voice
        wagon wall watch water wave weather week wheel wife wind window wing winter wolf woman wood wool word
        worker world yard year zebra
        """,
    "adjective": """
        afraid angry awful bad beautiful big black blue brave bright broken brown busy calm careful cheap
        clean clear clever cold common cool crazy curious dangerous dark dead dear deep different difficult
        dirty dry early easy empty expensive fair famous fast fat final fine flat foreign free fresh friendly
        full funny gentle glad golden good gray great green happy hard healthy heavy hidden high hollow honest
        hot huge hungry important kind large last late lazy left little lonely long loose loud lovely low
        lucky main modern narrow near neat new nice noisy old open ordinary perfect plain pleasant polite poor
        pretty private proud public purple quick quiet rare ready real red rich right ripe rough round sad
        safe salty serious sharp short shy sick silent silly simple single slow small smart smooth soft
        special square steep sticky strange strong sudden sweet tall tame terrible thick thin tiny tired true
        ugly usual warm wet white whole wide wild wise wonderful wooden wrong yellow young
        """,
    "verb": """
        accept add agree allow answer arrive ask bake become begin believe borrow break bring build burn buy
        call carry catch change check choose clean climb close come cook count cover cross cut dance decide
        deliver describe dig draw drink drive drop eat enjoy enter explain fall feed feel fight fill find
        finish fix fly fold follow forget forgive get give go grow guess hear help hide hit hold hope hurry
        imagine improve invite join jump keep kick know laugh lead learn leave lend lift like listen lock look
        lose love make mark measure meet mention miss move need notice offer open order paint pass pay pick
        plan plant play pour prefer prepare pretend promise protect pull push put reach read receive remember
        remove repair repeat reply return ride ring rub run save say search see sell send serve shake share
        shout show sing sit sleep smell smile sort speak spell spend stand start stay steal stir stop study
        swim take talk taste teach tell thank think throw touch travel try turn understand use visit wait wake
        walk want wash watch wear whisper win wipe wish wonder work worry wrap write
        """,
    "verb_s": """
        asks bakes becomes begins belongs breaks brings builds burns buys calls carries catches changes chases
        cleans climbs closes comes cooks covers crosses cuts dances drinks drives drops eats enjoys enters
        falls feeds fills finds finishes follows gives goes grows hates hears helps hides hits holds jumps
        keeps kicks knows laughs leads leaves likes listens looks loses loves makes meets misses moves needs
        notices opens paints passes pays plays pulls pushes reads reaches remembers repairs returns rides
        rings runs says sees sells sends shakes shows sings sits sleeps smells smiles speaks spends stands
        starts stays stops swims takes talks tastes teaches tells thinks throws touches travels tries turns
        uses visits waits walks wants washes watches wears wins works writes
        """,
    "verb_d": """
        agreed answered appeared arrived asked baked became began believed borrowed broke brought built burned
        called came carried caught changed checked cleaned climbed closed cooked counted covered crossed
        danced decided dropped enjoyed entered explained fell fixed followed forgot found gave grew happened
        heard helped hid hoped hurried jumped kept knew laughed learned left lifted liked listened lived
        looked lost loved met missed moved needed noticed opened ordered painted passed played pulled pushed
        reached remembered repaired returned rode sailed sang sat saw shouted showed slept smiled sold spoke
        stayed stood stopped studied swam talked thanked thought threw told took traveled tried turned visited
        waited walked wanted washed watched went whispered wondered worked wrote
        """,
    "noun_s": """
        animals apples babies bags balls birds boats books bottles boxes boys bridges buses buttons cakes cars
        cards cats chairs children clocks clouds coats coins cookies cows cups dogs doors dresses ducks ears
        eggs eyes farmers feet fingers flowers friends games gardens gifts girls glasses gloves hands hats
        horses hours houses islands jackets keys kings lamps lemons lessons letters lions machines maps meals
        men mice mountains movies names neighbors nights numbers oranges pages papers parents pencils people
        phones photos pictures planes plants plates problems puppies questions rabbits rivers roads rocks
        rooms rules sailors schools sheep ships shirts shoes singers sisters socks songs spiders spoons stars
        stones stories streets students tables teachers teeth things tickets tools towels toys trains trees
        trucks visitors voices walls weeks windows wolves women words workers years
        """,
    "place": """
        airport apartment attic bakery balcony barn basement bathroom bedroom beach cabin cafe camp church
        cinema city classroom corner country desert factory farm field forest garage garden hall harbor
        hospital hotel house kitchen lake library market mountain museum office park playground restaurant
        river school seaside shop stadium station studio supermarket theater tower town university valley
        village
        """,
    "adverb": """
        again alone already always anyway badly carefully early easily everywhere finally happily here inside
        never now often once outside politely quickly quietly really sadly sometimes slowly soon suddenly
        there together twice upstairs usually well
        """,
    "preposition": """
        about above across after against along around at before behind below beside between beyond by during
        for from in into near of off on over past through to toward under until up with without
        """,
    "determiner": "a the my your his her our their this that every another some any each no",
    "pronoun": "i you he she we they it everybody nobody someone",
    "modal": "can could may might must shall should will would did",
    "question": "what when where which who why how",
    "conjunction": "although and because but if or since so unless until when while",
    "number": """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand
        million
        """,
    "name": """
        adam alice amy anna barbara ben bill bob carol charlie claire daniel david diana edward ella emily
        emma eric eva fiona frank fred george grace hannah harry helen henry isabel jack jacob james jane
        jason jenny jessica joe john julia karen kate kevin laura leo linda lisa lucy luke maria mark martin
        mary max michael mike molly nancy nick oliver oscar paul peter philip rachel robert rosie ruth sally
        sam sarah simon sophie steve susan thomas tina tom victor walter wendy william
        """,
    "time": """
        today tonight tomorrow yesterday monday tuesday wednesday thursday friday saturday sunday january
        february march april may june july august september october november december
        """,
    "interjection": "hello hi hey okay yes no well oh sorry thanks please goodbye alright maybe sure welcome",
}

_PHRASES = {
    "time": ("this morning", "last night", "next week", "a year ago", "in the evening", "after lunch", "all day long"),
    "interjection": ("excuse me", "good morning", "good night", "never mind", "of course", "thank you", "not really"),
    "preposition": ("next to", "in front of", "far from", "close to", "out of"),
}

WORDS: dict[str, tuple[str, ...]] = {
    kind: (*dict.fromkeys(text.split()), *_PHRASES.get(kind, ())) for kind, text in _LISTS.items()
}
"""Words (and a few set phrases) by kind; the kinds are the slots of the sentence templates."""
