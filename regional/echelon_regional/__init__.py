"""The regional scheduler: releases, judges, retries."""
