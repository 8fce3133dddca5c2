/// Keys and tokens that OpenSSL made: user alice, issuer https://issuer.example, audience stampede, until the year 2100, with
/// leave to publish to `/topic/{user}.#`. The private keys are gone.
enum WebTokenFixtures {
    static let rsa = """
        -----BEGIN PUBLIC KEY-----
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0eTrCLh9WxP9xfV+ud8C
        dIhouc70mXyb8mZopHwE/Z2zuBotXPJeyfn4+kNAwEHeiKgSRcaNVV27Co84ujlZ
        r0wwJYZBSNkkmLbytZecv4MLWRJCGhjfm92VXcVmwH6fIcgAGJbRdpLG6wejCIvg
        688GfXxYKKwyYr9Yv351orfRBGHnOvPb3kQK+keoVCQFuOePODzQfiCVVRV3nTRK
        rxXKa9rHsJDJ+spyQRF3xvxieTNgIxgNCwzhy725Ak/eXUhdXmXhRzqVUeel2MNw
        8QiFf8gxAsVCDvM/qIbbEWUzFUfV91IuG9/i+7o+fwz4KFM7wN8jxiVgad4K9qbI
        mQIDAQAB
        -----END PUBLIC KEY-----

        """

    static let shortRSA = """
        -----BEGIN PUBLIC KEY-----
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC/oYu9ILxvns2Gd8G4+qjm0AG0
        naY9uwhREfeyglIP0l0g7TGrr4C1YbUD5eNwD/SfNL+YMXVbEKvGHGhajnl8oHBh
        Ypi/S9mUTTc7wIHanYqheBulrIM5M2xw+lQK+w7TV4CexnY6fFYpho6igMgKd5tM
        m4LLfxNqHkyvu8F5QQIDAQAB
        -----END PUBLIC KEY-----

        """

    static let p256 = """
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEjVTTpXV5hmoCIWvH11oubSBoT0O
        Vm2u+19iAfm4+wi81YhHLdxRVxv7EdBiJQUcEXDLZrnljCikNxmCLx8O5w==
        -----END PUBLIC KEY-----

        """

    static let p384 = """
        -----BEGIN PUBLIC KEY-----
        MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEJj6/MmXiyZ6BHIEKAvsq3gQWUb6N30Su
        bkC7wiFoxMQBoaWNfV5CWFGQBfSNm9F0gvyv4rMOEFSoNduoUbKNQrOKfoBinrGB
        phS/I3MRBOX86loyAPKUE7XFr+U4faTf
        -----END PUBLIC KEY-----

        """

    static let ed25519 = """
        -----BEGIN PUBLIC KEY-----
        MCowBQYDK2VwAyEAhDfdmljmp3v86lCU5BOv3luZzKnytWOy6eXfeCDXj9o=
        -----END PUBLIC KEY-----

        """

    static let rs256 =
        "eyJhbGciOiJSUzI1NiIsImtpZCI6InIxIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMCwiaXNz"
        + "IjoiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsImF1ZCI6WyJzdGFtcGVkZSIsIm90aGVyIl0sInN0YW1wZWRlIjp7InB1Ymxpc2gi"
        + "OlsiL3RvcGljL3t1c2VyfS4jIl19fQ.hgcTCTw24ZxqGRFJw8eHwe9uiQXcs2hcJEtZE6dgY-pvVGvXJ0oGU-3eYHy4jtrmMEbSZ"
        + "EWfkLH9zHOAhiF9VacEjHJ2A6K5ZyxHMGtTbElVGcyuJsV4nHx7KfFk_7W5XbWMp9GAoEB0dyCYaEGOsR6g2FfFS0C7xdns18lxF"
        + "X04wpn7BavO1q1lM_ZdQOWjFCYwJbSOGyVSmAHhT3S5D3EYMsVlmXE0t8xNmw0mC0uu-LAGbRzYr4R3vAzH2gkHcQLhJbmUvtlGl"
        + "PyeJpqxwjlOmAOYkjaSHa_DJiANKCqY82z_ilLp_AD1_ASAmE3Xo2DZAhbmEwsPZgB2zPgAnA"

    static let es256 =
        "eyJhbGciOiJFUzI1NiIsImtpZCI6ImUxIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMCwiaXNz"
        + "IjoiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsImF1ZCI6WyJzdGFtcGVkZSIsIm90aGVyIl0sInN0YW1wZWRlIjp7InB1Ymxpc2gi"
        + "OlsiL3RvcGljL3t1c2VyfS4jIl19fQ.P8GAoYvDu74wmvBlZwceQY69m-pWnvbk3oTTI9dFkZ89fVqucdImO_hBFmcKBFTYqv546"
        + "xEvK7FCLSiFMt9_zQ"

    static let edDSA =
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImQxIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMCwiaXNz"
        + "IjoiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsImF1ZCI6WyJzdGFtcGVkZSIsIm90aGVyIl0sInN0YW1wZWRlIjp7InB1Ymxpc2gi"
        + "OlsiL3RvcGljL3t1c2VyfS4jIl19fQ.wtkipoc8BkYkG-CZfU-xqdaQWS7rrGy234llFWBPZXWdeBHLGhF3PM7iT8aIEFuCZx6PY"
        + "xVcPDOy78hgfH8ZBw"

    static let keySet =
        #"{"keys":[{"kty":"RSA","kid":"r1","use":"sig","alg":"RS256","n":"0eTrCLh9WxP9xfV-ud8CdIhouc70mXyb8mZo"#
        + "pHwE_Z2zuBotXPJeyfn4-kNAwEHeiKgSRcaNVV27Co84ujlZr0wwJYZBSNkkmLbytZecv4MLWRJCGhjfm92VXcVmwH6fIcgAGJbR"
        + "dpLG6wejCIvg688GfXxYKKwyYr9Yv351orfRBGHnOvPb3kQK-keoVCQFuOePODzQfiCVVRV3nTRKrxXKa9rHsJDJ-spyQRF3xvxi"
        + "eTNgIxgNCwzhy725Ak_eXUhdXmXhRzqVUeel2MNw8QiFf8gxAsVCDvM_qIbbEWUzFUfV91IuG9_i-7o-fwz4KFM7wN8jxiVgad4K"
        + #"9qbImQ","e":"AQAB"},{"kty":"EC","kid":"e1","crv":"P-256","x":"EjVTTpXV5hmoCIWvH11oubSBoT0OVm2u-19iAf"#
        + #"m4-wg","y":"vNWIRy3cUVcb-xHQYiUFHBFwy2a55YwopDcZgi8fDuc"},{"kty":"OKP","kid":"d1","crv":"Ed25519","x"#
        + #"":"hDfdmljmp3v86lCU5BOv3luZzKnytWOy6eXfeCDXj9o"},{"kty":"RSA","kid":"enc","use":"enc","n":"0eTrCLh9W"#
        + "xP9xfV-ud8CdIhouc70mXyb8mZopHwE_Z2zuBotXPJeyfn4-kNAwEHeiKgSRcaNVV27Co84ujlZr0wwJYZBSNkkmLbytZecv4MLW"
        + "RJCGhjfm92VXcVmwH6fIcgAGJbRdpLG6wejCIvg688GfXxYKKwyYr9Yv351orfRBGHnOvPb3kQK-keoVCQFuOePODzQfiCVVRV3n"
        + "TRKrxXKa9rHsJDJ-spyQRF3xvxieTNgIxgNCwzhy725Ak_eXUhdXmXhRzqVUeel2MNw8QiFf8gxAsVCDvM_qIbbEWUzFUfV91IuG"
        + #"9_i-7o-fwz4KFM7wN8jxiVgad4K9qbImQ","e":"AQAB"}]}"#
}
