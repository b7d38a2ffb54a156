"""Identity and admission: root CA, node certificates, join tokens, key files, issuing and renewal."""
