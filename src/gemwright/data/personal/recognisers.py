"""presidio's recognisers without a language model: patterns, check digits, and the words near a number.

Names and addresses would need a trained model and are not looked for.
"""

import functools
from typing import Any

from gemwright.data.rules.light import without_networks

# What presidio calls it: what we call it. Sensitive data opens accounts or is a person's for life.
SENSITIVE = {
    "CREDIT_CARD": "card number",
    "IBAN_CODE": "bank account",
    "CRYPTO": "wallet",
    "SECRET": "key",
    "US_SSN": "national id",
    "US_ITIN": "national id",
    "UK_NHS": "national id",
    "UK_NINO": "national id",
    "ES_NIF": "national id",
    "ES_NIE": "national id",
    "IT_FISCAL_CODE": "national id",
    "PL_PESEL": "national id",
    "FI_PERSONAL_IDENTITY_CODE": "national id",
    "SE_PERSONNUMMER": "national id",
    "KR_RRN": "national id",
    "IN_AADHAAR": "national id",
    "IN_PAN": "national id",
    "SG_NRIC_FIN": "national id",
    "AU_TFN": "national id",
    "CA_SIN": "national id",
    "TH_TNIN": "national id",
    "TR_NATIONAL_ID": "national id",
}
PERSONAL = {"EMAIL_ADDRESS": "e-mail", "PHONE_NUMBER": "phone number", "IP_ADDRESS": "network address"}
NAMES = SENSITIVE | PERSONAL

_RECOGNISERS = (
    "CreditCardRecognizer", "IbanRecognizer", "CryptoRecognizer", "UsSsnRecognizer", "UsItinRecognizer",
    "NhsRecognizer", "UkNinoRecognizer", "EsNifRecognizer", "EsNieRecognizer", "ItFiscalCodeRecognizer",
    "PlPeselRecognizer", "FiPersonalIdentityCodeRecognizer", "SePersonnummerRecognizer", "KrRrnRecognizer",
    "InAadhaarRecognizer", "InPanRecognizer", "SgFinRecognizer", "AuTfnRecognizer", "CaSinRecognizer",
    "ThTninRecognizer", "TrNationalIdRecognizer", "IpRecognizer",
)  # fmt: skip

_REGIONS = ("US", "GB", "DE", "FR", "IN", "CA", "BR", "KR", "JP", "ES", "IT")

# Secrets whose form alone gives them away.
_SECRETS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[\s\S]{40,4000}?-----END (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{82})\b",
    "Google": r"\bAIza[0-9A-Za-z_\-]{35}",
    "Slack": r"\bxox[abprs]-[0-9A-Za-z\-]{10,72}",
    "Stripe": r"\b[sr]k_live_[0-9A-Za-z]{24,}",
    "OpenAI": r"\bsk-(?:proj-|ant-)?[0-9A-Za-z_\-]{32,}",
    "Hugging Face": r"\bhf_[0-9A-Za-z]{34}\b",
    "token": r"\beyJ[0-9A-Za-z_\-]{10,}\.eyJ[0-9A-Za-z_\-]{10,}\.[0-9A-Za-z_\-]{20,}",
}


@functools.lru_cache(maxsize=1)
@without_networks()
def analyser() -> Any:
    """presidio's engine on a blank spaCy pipeline; nothing is downloaded."""
    import presidio_analyzer as presidio
    from presidio_analyzer import predefined_recognizers as known

    found = [getattr(known, name)(supported_language="en") for name in _RECOGNISERS]
    phones = known.PhoneRecognizer(supported_regions=_REGIONS, leniency=2, supported_language="en")
    registry = presidio.RecognizerRegistry([*found, phones, _secrets(), _mail()], supported_languages=["en"])
    return presidio.AnalyzerEngine(registry=registry, nlp_engine=_blank(), supported_languages=["en"])


def _secrets() -> Any:
    from presidio_analyzer import Pattern, PatternRecognizer

    patterns = [Pattern(name, pattern, 0.9) for name, pattern in _SECRETS.items()]
    return PatternRecognizer("SECRET", patterns=patterns, supported_language="en", global_regex_flags=0)


def _mail() -> Any:
    """Addresses at real top-level domains, by the list that tldextract ships: its own reading would ask the network."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer
    from tldextract import TLDExtract

    extract = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Mail(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return bool(extract(pattern_text).top_domain_under_public_suffix)

    return Mail(supported_language="en")


def _blank() -> Any:
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from spacy.language import Language
    from spacy.tokens import Doc

    @Language.component("gemwright_lower_case_for_lemma")
    def lower(document: Doc) -> Doc:  # words nearby are compared by their lemma
        for token in document:
            token.lemma_ = token.lower_
        return document

    del lower

    class Blank(SpacyNlpEngine):
        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}
            self.nlp["en"].add_pipe("gemwright_lower_case_for_lemma")

    engine = Blank()
    engine.load()
    return engine
