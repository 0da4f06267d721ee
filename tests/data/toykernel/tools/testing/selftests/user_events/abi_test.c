TEST_F(user, enablement) {}
