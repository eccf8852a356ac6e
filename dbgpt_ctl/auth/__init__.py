"""Who may do what: tokens, their roles and scopes, and the file that holds them."""
