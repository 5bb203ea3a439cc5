"""Stored passwords with their passwords, as published: facts, each with its source.

`mkpasswd`, Dovecot and slapd make fresh ones of the same kinds in `tests/integration/test_password_hashes.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from migrator.passwords import Scheme, Use


class Vector(NamedTuple):
    """A hash, the password that belongs to it, and what both are to be read as."""

    text: str
    password: bytes
    scheme: Scheme
    use: Use
    source: str


_TAKEN, _FIRST = Use.AS_IT_IS, Use.FIRST_LOGIN
_LONG = b"a very much longer text to encrypt.  This one even stretches over morethan one line."
_SHORT_SALT = b"we have a short salt string but not a short password"
_JOHN = "Openwall, the self-tests of John the Ripper and crypt_blowfish"
_DREPPER = "Ulrich Drepper, Unix crypt using SHA-256 and SHA-512, test vectors"
_OPENLDAP = "OpenLDAP Administrator's Guide, Password Storage"
_PASSLIB = "passlib 1.7.4, documentation and test vectors of the handler"
_MS_NLMP = "MS-NLMP 4.2.2, the password Password"
_ARGON2 = "the reference implementation of Argon2, src/test.c"

VECTORS = (
    Vector("CCNf8Sbh3HDfQ", b"U*U*U*U*", Scheme.DES_CRYPT, _TAKEN, _JOHN),
    Vector("CCX.K.MFy4Ois", b"U*U***U", Scheme.DES_CRYPT, _TAKEN, _JOHN),
    Vector("{crypt}XXxzOu6maQKqQ", b"*U*U*U*U", Scheme.DES_CRYPT, _TAKEN, _JOHN + "; prefix of RFC 2307"),
    Vector("{WM-CRY}XXxzOu6maQKqQ", b"*U*U*U*U", Scheme.DES_CRYPT, _TAKEN, _JOHN + "; prefix of the guide"),
    Vector("_J9..CCCCXBrJUJV154M", b"U*U*U*U*", Scheme.BSDI_CRYPT, _FIRST, _JOHN),
    Vector("_J9..CCCCXUhOBTXzaiE", b"U*U***U", Scheme.BSDI_CRYPT, _FIRST, _JOHN),
    Vector("$1$12345678$aIccj83HRDBo6ux1bVx7D1", b"0123456789ABCDE", Scheme.MD5_CRYPT, _TAKEN, _JOHN),
    Vector("$1$12345678$f8QoJuo0DpBRfQSD0vglc1", b"12345678", Scheme.MD5_CRYPT, _TAKEN, _JOHN),
    Vector("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U", Scheme.BCRYPT, _TAKEN, _JOHN),
    Vector("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", b"U*U*", Scheme.BCRYPT, _TAKEN, _JOHN),
    Vector("$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", b"U*U*U", Scheme.BCRYPT, _TAKEN, _JOHN),
    Vector(
        "$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
        b"\xff\xff\xa3",
        Scheme.BCRYPT,
        _FIRST,
        _JOHN + ": the password that old $2a$ read wrongly",
    ),
    Vector(
        "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
        b"Hello world!",
        Scheme.SHA256_CRYPT,
        _FIRST,
        _DREPPER,
    ),
    Vector(
        "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
        _LONG,
        Scheme.SHA256_CRYPT,
        _FIRST,
        _DREPPER,
    ),
    Vector(
        "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
        _SHORT_SALT,
        Scheme.SHA256_CRYPT,
        _FIRST,
        _DREPPER,
    ),
    Vector(
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        b"Hello world!",
        Scheme.SHA512_CRYPT,
        _FIRST,
        _DREPPER,
    ),
    Vector(
        "$6$rounds=10000$saltstringsaltst$"
        "OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        b"Hello world!",
        Scheme.SHA512_CRYPT,
        _FIRST,
        _DREPPER,
    ),
    Vector(
        "$7$C6..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D",
        b"pleaseletmein",
        Scheme.SCRYPT,
        _FIRST,
        "yescrypt 1.1, TESTS-OK",
    ),
    Vector(
        "$y$jD5.7$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6",
        b"pleaseletmein",
        Scheme.YESCRYPT,
        _FIRST,
        "yescrypt 1.1, TESTS-OK",
    ),
    Vector("$md5$RPgLF6IJ$WTvAlUJ7MqH5xak2FMEwS/", b"passwd", Scheme.SUN_MD5, _FIRST, _PASSLIB),
    Vector("$md5$3UqYqndY$$6P.aaWOoucxxq.l00SS9k0", b"this", Scheme.SUN_MD5, _FIRST, _PASSLIB),
    Vector("$sha1$40000$jtNX3nZ2$hBNaIXkt4wBI2o5rsi8KejSjNqIq", b"password", Scheme.SHA1_CRYPT, _FIRST, _PASSLIB),
    Vector(
        "$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0",
        b"myPassword",
        Scheme.APR_MD5,
        _FIRST,
        "Apache HTTP Server 2.4, Password Formats",
    ),
    Vector(
        "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        b"password",
        Scheme.ARGON2,
        _FIRST,
        _ARGON2,
    ),
    Vector(
        "{ARGON2}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        b"password",
        Scheme.ARGON2,
        _FIRST,
        _ARGON2 + "; prefix of OpenLDAP's slapd-pw-argon2",
    ),
    Vector(
        "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
        b"password",
        Scheme.ARGON2,
        _FIRST,
        _ARGON2 + ", version 0x10",
    ),
    Vector("{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", b"secret", Scheme.MD5, _TAKEN, _OPENLDAP),
    Vector("{SMD5}4QWGWZpj9GCmfuqEvm8HtZhZS6E=", b"secret", Scheme.SALTED_MD5, _FIRST, _OPENLDAP),
    Vector("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", b"secret", Scheme.SHA1, _TAKEN, _OPENLDAP),
    Vector("{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3", b"secret", Scheme.SALTED_SHA1, _FIRST, _OPENLDAP),
    Vector("{SMD5}jNoSMNY0cybfuBWiaGlFw3Mfi/U=", b"password", Scheme.SALTED_MD5, _FIRST, _PASSLIB),
    Vector("{SSHA}pKqkNr1tq3wtQqk+UcPyA3HnA2NsU5NJ", b"password", Scheme.SALTED_SHA1, _FIRST, _PASSLIB),
    Vector(
        "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
        b"secret",
        Scheme.SHA256,
        _FIRST,
        "OpenLDAP, contrib/slapd-modules/passwd/sha2/README",
    ),
    Vector(
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
        b"secret",
        Scheme.SHA512,
        _FIRST,
        "OpenLDAP, contrib/slapd-modules/passwd/sha2/README",
    ),
    Vector(
        "{NS-MTA-MD5}18c04d74cf2d34f9887c6832582546b88fd9d0a03491ce8f99cfbc9ab39f0dd5",
        b"password",
        Scheme.NS_MTA_MD5,
        _TAKEN,
        "the hashcat example hashes' construction: md5(salt 0x59 password 0xf7 salt)",
    ),
    Vector(
        "{SHA384}ywB1P0WjXou1oD1pmsZQBycsMqsO3tFjGotgWkP/W+2AhgcroefMI1i67KE0yCWn",
        b"abc",
        Scheme.SHA384,
        _FIRST,
        "FIPS 180-4, example SHA384.pdf",
    ),
    Vector(
        "{SSHA256}OZiz0cnQ5hgyel3Emh7NCbhBRCQ+HVBwYplQunHYnER7TLuV",
        b"hashcat",
        Scheme.SALTED_SHA256,
        _FIRST,
        "hashcat's example for mode 1411",
    ),
    Vector(
        "{SSHA512}ALtwKGBdRgD+U0fPAy31C28RyKYx7+a8kmfksccsOeLknLHv2DBXYI7TDnTolQMBuPkWDISgZr2cHfnNPFjGZTEyNDU4OTkw",
        b"hashcat",
        Scheme.SALTED_SHA512,
        _FIRST,
        "hashcat's example for mode 1711",
    ),
    Vector(
        "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
        b"Kk4DQuMMfZL9o",
        Scheme.BCRYPT,
        _FIRST,
        "the tests of bcrypt for Python",
    ),
    Vector(
        "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        b"pencil",
        Scheme.SCRAM_SHA256,
        _FIRST,
        "RFC 7677, section 3, keys derived as in RFC 5802",
    ),
    Vector("{PLAIN-MD4}d9130a8164549fe818874806e1c7014b", b"message digest", Scheme.MD4, _FIRST, "RFC 1320, A.5"),
    Vector("{LANM}e52cac67419a9a224a3b108f3fa6cb6d", b"Password", Scheme.LANMAN, _TAKEN, _MS_NLMP),
    Vector("{MSNT}a4f49c406510bdcab6824ee7c30fd852", b"Password", Scheme.NT, _TAKEN, _MS_NLMP),
    Vector("$3$$8846f7eaee8fb117ad06bdd830b7586c", b"password", Scheme.NT, _TAKEN, "crypt(5) of libxcrypt, NT"),
    Vector(
        "{PBKDF2}$1$salt$4096$4b007901b765489abead49d926f721d065a429c1",
        b"password",
        Scheme.PBKDF2_SHA1,
        _FIRST,
        "RFC 6070, in Dovecot's form",
    ),
    Vector(
        "$pbkdf2-sha256$6400$.6UI/S.nXIk8jcbdHx3Fhg$98jZicV16ODfEsEZeYPGHU3kbrUrvUEXOPimVSQDD44",
        b"password",
        Scheme.PBKDF2_SHA256,
        _FIRST,
        _PASSLIB,
    ),
    Vector(
        "{PBKDF2_SHA256}AAAgADkxMjM2NTIzMzgzMjQ3MjI4MDAwNTk5OTAyOTk4NDI2MjkyMzAzNjg0NjQwOTMxNjI3OTMzNjg0MDI0O"
        "TY5NTe5ULagRTYpLaUoeqJMg8x9W/DXu+9VTFaVhaYvebYrY+sOqn1ZMRnws22C1uAkiE2tFM8qN+xw5xe7OmCPZ203NuruK4oB3"
        "3QlsKIEz4ppm0TR94JB9PJx7lIQwFHD3FUNUNryj4jk6UYyJ4+V1Z9Ug/Iy/ylQBJgfs5ihzgxHYZrfp1wUCXFzlZG9mxmziPm8V"
        "FnAhaX4+FBAZvLAx33jpbKOwEg7TmwP2VJ8BNFLQRqwYdlqIjQlAhncXH+dqIF9VdM4MonAA0hx76bMvFTP7LF5VO1IqVmcuYz7Y"
        "G9v4KKRjnvoUUqOj6okUBQTay3EzsdFVnUW1FemYOccJd5q",
        b"hashcat",
        Scheme.PBKDF2_SHA256,
        _FIRST,
        "389 Directory Server's binary form: hashcat's example for mode 10901",
    ),
    Vector(
        "{PBKDF2_SHA256}AAAIAG+ooTntmgayOuMZRJuCMFVykCVWcVF3tw8YTlvFp9KF9UnFYhgpz8fC03o4Jv5KD4rQ4GsdXHIRlg/do"
        "yd1xOVFDYUZYAPHjnSpm9XnzIcaS4ZCV/JeLqueyeZQWKOlCH+k9BCmO2HZC7AKXWGMG5bJ8GLALceyf0xioP447wehg8caWYY7f"
        "2VYBz6k233DUkgV5NqswzuEwtLdDDFjpro0Ac15ok6fS0vqjDfiMs0ai5FCbivEKw4j6ZyuXHCpck6gcH8lh33rs779ZaLAgtIee"
        "W+xdea3BDCQXhuHwCqIxxifLn2gQy/lLxlikXb82gk2ClADhwoG5RIdJ3ABrPDB100yw6QJ7NF14vV7DDzqxqylocWD/l1xw8HIY"
        "dkCpRG8PyfLz8TOR+Mgq0uB/mddrSkU6Hsmg9MkGpST69av",
        b"password",
        Scheme.PBKDF2_SHA256,
        _FIRST,
        "389 Directory Server's binary form, in the tests of FreeIPA",
    ),
    Vector(
        "{PBKDF2-SHA512}10000$/oQ4xZi382mk7kvCd3ZdkA$"
        "2wqjpuyV2l0U/a1QwoQPOtlQL.UcJGNACj1O24balruqQb/NgPW6OCvvrrJP8.SzA3/5iYvLnwWPzeX8IK/bEQ",
        b"secret",
        Scheme.PBKDF2_SHA512,
        _FIRST,
        "OpenLDAP, contrib/slapd-modules/passwd/pbkdf2/README",
    ),
    Vector(
        "{PBKDF2-SHA512}10000$hbMHmUXNh3UoHNlDu+NJBOW+hVAhP3C0$"
        "ax9vNLL1rr85ppODFTykPC46igHh92vULWpZaR/CQqyD4IGG/IyPYbbC2v7BxSPIDUXc0e9AGX9IuwinIj5a/w==",
        b"12345678_kolab",
        Scheme.PBKDF2_SHA512,
        _FIRST,
        "389 Directory Server, in the tests of Kolab",
    ),
    Vector(
        "{PBKDF2-SHA512}10000$Je1Uw19Bfv5lArzZ6V3EPw$"
        "g4T/1sqBUYWl9o93MVnyQ/8zKGSkPbKaXXsT8WmysXQJhWy8MRP2JFudSL.N9RklQYgDPxPjnfum/F2f/TrppA",
        b"password",
        Scheme.PBKDF2_SHA512,
        _FIRST,
        "OpenLDAP's pw-pbkdf2, in the tests of Kanidm",
    ),
    Vector(
        "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
        b"pencil",
        Scheme.SCRAM_SHA1,
        _FIRST,
        "RFC 5802, section 5, keys derived as in section 3",
    ),
)
