"""Well-known networks by autonomous system number (behaviour §4.3, `ip:type`).

The networks that most requests come from: clouds and hosters, access providers, research networks
and a few large organisations. State of 2025, numbers as in the registries' public records
(RFC 7020). Whatever is not here is up to the gateway's `X-ASN-Type`.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

NetworkType = Literal[
    "business",
    "education_research",
    "government_admin",
    "hosting",
    "isp",
    "unrouted",
    "unknown",
]

NETWORK_TYPES: Final = frozenset(get_args(NetworkType))

# One organisation a line: its name, a colon, its numbers.
_TABLE: Final[Mapping[NetworkType, str]] = {
    "hosting": """
        Akamai: 16625 20940 63949
        Alexhost: 200019
        Alibaba Cloud: 37963 45102
        Amazon Web Services: 8987 14618 16509
        ColoCrossing: 36352
        Cloudflare: 13335 209242
        Clouvider: 62240
        Contabo: 40021 51167 141995
        Datacamp: 60068 212238
        DigitalOcean: 14061 62567
        EGIHosting: 18779
        Enzu: 18978
        Equinix Metal: 54825
        Fastly: 54113
        FranTech: 53667
        G-Core: 199524
        GoDaddy: 20773 26496 398101
        Google: 15169 19527 396982
        Hetzner: 24940 213230
        Hivelocity: 29802
        Hostinger: 47583
        Hostkey: 57043
        Huawei Cloud: 55990 136907
        IBM Cloud: 36351
        InterServer: 19318
        IONOS: 8560
        IT7: 25820
        Latitude.sh: 396356
        Leaseweb: 28753 30633 59253 60781 394380 395954
        Liquid Web: 32244
        M247: 9009
        Microsoft Azure: 8068 8069 8075 12076
        myLoc: 24961
        Namecheap: 22612
        netcup: 197540
        NForce: 43350
        Oracle Cloud: 31898
        OVHcloud: 16276 35540
        Psychz: 40676
        QuadraNet: 8100
        Rackspace: 15395 19994 27357 33070
        Sakura: 7684 9370
        Scaleway: 12876
        Serverius: 50673
        ServerMania: 55286
        Sharktech: 46844
        SingleHop: 32475
        Tencent Cloud: 45090 132203
        TimeWeb: 9123
        TransIP: 20857
        Unified Layer: 46606
        velia.net: 29066
        Vultr: 20473
        WorldStream: 49981
        Yandex Cloud: 200350
        Zenlayer: 21859
        """,
    "isp": """
        A1 Austria: 8447
        Airtel: 24560 45609
        Altibox: 29695
        Arelion: 1299
        AT&T: 7018
        Aussie Broadband: 4764
        Bell Canada: 577 855
        Bezeq: 8551
        Bouygues Telecom: 5410
        BSNL: 9829
        BT: 2856
        Cable One: 11492
        Charter: 10796 11351 11426 11427 12271 20001 20115 33363
        China Mobile: 9808
        China Telecom: 4134
        China Unicom: 4837
        Claro: 10620 28573
        Cogeco: 7992
        Cogent: 174
        Comcast: 7922
        Cox: 22773
        Deutsche Glasfaser: 60294
        Deutsche Telekom: 3320
        DNA: 16086
        du: 15802
        EE: 12576
        Elisa: 719
        Etisalat: 5384
        Fastweb: 12874
        FPT: 18403
        Free: 12322
        Frontier: 5650
        Hathway: 17488
        HiNet: 3462
        HKT: 4760
        Hughes: 6621
        Hurricane Electric: 6939
        Jio: 55836
        KDDI: 2516
        Korea Telecom: 4766
        KPN: 1136
        Kyivstar: 15895
        LG Uplus: 3786 17858
        Liberty Global: 6830
        Lumen: 209 3356
        M-net: 8767
        Magenta Austria: 8412
        Magyar Telekom: 5483
        Maroc Telecom: 36903
        Mediacom: 30036
        MegaFon: 31133
        MEO: 3243
        MTN: 16637 29465
        MTS: 8359
        NetCologne: 8422
        Netia: 12741
        NOS: 2860
        NTT: 2914 4713
        NTT Docomo: 9605
        O2 Czech Republic: 5610
        Odido: 50266
        Oi: 7738
        Optimum: 6128 19108
        Optus: 4804
        Orange: 3215 5617 12479
        OTE: 6799
        PLDT: 9299
        Proximus: 5432
        RCS & RDS: 8708
        Rogers: 812 6327
        Rostelecom: 12389
        Safaricom: 37061
        SFR: 15557
        Singtel: 9506
        SK Broadband: 9318
        Sky UK: 5607
        SoftBank: 17676
        Spark: 4771
        Starlink: 14593
        STC: 25019 39891
        Sunrise: 6730
        Superonline: 34984
        Swisscom: 3303
        TalkTalk: 13285
        Tata: 6453
        TDC: 3292
        TDS: 4181
        TE Data: 8452
        Tele2: 1257
        Telecom Argentina: 7303
        Telefónica: 3352 6147 6805 7418 22927 26599 27699
        Telenet: 6848
        Telenor: 2119
        Telia: 1759 3301
        Telkom Indonesia: 7713 23693
        Telkom SA: 37457
        Telmex: 8151
        Telstra: 1221
        TELUS: 852
        TIM: 3269
        TM: 4788
        T-Mobile: 12912 21928
        TPG: 7545
        True: 7470 17552
        Türk Telekom: 9121
        Verizon: 701 6167 22394
        Versatel: 8881
        Viasat: 7155
        Videotron: 5769
        Viettel: 7552
        VimpelCom: 3216 8402
        Virgin Media: 5089
        Vivacom: 8866
        VNPT: 45899
        Vodacom: 29975
        Vodafone: 3209 5378 12353 12430 30722 31334
        Windstream: 7029
        WindTre: 1267
        WOW: 12083
        Zen: 13037
        Ziggo: 33915
        """,
    "education_research": """
        AARNet: 7575
        ACOnet: 1853
        Belnet: 2611
        BelWü: 553
        CalREN: 2152
        CANARIE: 6509
        Carnegie Mellon University: 9
        CERN: 513
        CERNET: 4538
        CESNET: 2852
        Cornell University: 26
        DFN: 680
        FCCN: 1930
        Fraunhofer: 5501
        Funet: 1741
        GARR: 137
        GÉANT: 20965
        GRNET: 5408
        Harvard University: 11 1742
        HEAnet: 1213
        ILAN: 378
        Internet2: 11537
        Jisc: 786
        KIFÜ: 1955
        KREONET: 17579
        Leibniz Supercomputing Centre: 12816
        Massachusetts Institute of Technology: 3
        Merit: 237
        PIONIER: 8501
        Princeton University: 88
        REANNZ: 38022
        RedIRIS: 766
        Renater: 2200
        RNP: 1916
        Sikt: 224
        SINET: 2907
        Stanford University: 32
        Sunet: 1653
        SURF: 1103
        SWITCH: 559
        TENET: 2018
        ULAKNET: 8517
        University of California, Berkeley: 25
        University of California, Los Angeles: 52
        University of Washington: 73
        University of Wisconsin: 59
        Yale University: 29
        """,
    "government_admin": """
        NASA: 24 297
        National Institute of Standards and Technology: 49
        National Institutes of Health: 70 3527
        US Department of Defense: 306 668 721 27064 27065
        """,
    "business": """
        Apple: 714 6185
        Automattic: 2635
        Blizzard: 57976
        Cisco: 109
        Dropbox: 19679
        GitHub: 36459
        Hewlett-Packard: 71
        LinkedIn: 14413
        Meta: 32934 54115 63293
        Netflix: 2906
        Riot Games: 6507
        Twitch: 46489
        Valve: 32590
        X: 13414
        Zscaler: 22616 53813 62044
        """,
}


def _entries() -> Iterator[tuple[int, NetworkType]]:
    for network_type, lines in _TABLE.items():
        for line in lines.strip().splitlines():
            for number in line.rpartition(":")[2].split():
                yield int(number), network_type


TYPE_OF_ASN: Final[Mapping[int, NetworkType]] = dict(_entries())
